"""The output of a job as it comes: live objects while it runs, its log afterwards.

While somebody follows a job, the node agent writes what is new as objects of the job's bucket. The
name of such an object has the attempt, the stream and the offset of its first byte. The agent
removes them when the attempt ends. Then the log of the whole stream is in the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from leruli.errors import StorageError
from leruli.folder.job_folder import LIVE_PREFIX
from leruli.storage.store import Store

#: The two streams of a job, and the object with all of each.
OUT, ERR = "out", "err"
LOGS = {OUT: "joblog.txt", ERR: "joberr.txt"}

_OFFSET = re.compile("[0-9]{15}")

# How often the rest of a log is asked for when the connection breaks.
_TRIES = 3


@dataclass
class LiveStream:
    """One stream of one job: gives each byte once, in order, to `sink`."""

    store: Store
    bucket: str
    name: str  #: OUT or ERR
    sink: Callable[[bytes], object]
    #: Takes the number of bytes that the live objects lack.
    skipped: Callable[[int], None]
    #: Never skip: after a gap nothing comes until the job is over.
    is_whole: bool = False
    attempt: int = 0
    #: Bytes of the attempt that were given or skipped.
    position: int = 0
    _last: str | None = None
    _is_held: bool = False

    def begin(self, attempt: int) -> None:
        """Go on with another attempt of the job, whose output begins at its first byte."""
        self.attempt, self.position = attempt, 0
        self._last, self._is_held = None, False

    def advance(self) -> bool:
        """Give what has come as live objects since the last call; return whether there was any.

        Raises StorageError.
        """
        folder = f"{LIVE_PREFIX}{self.attempt}/{self.name}/"
        found = False
        for item in self.store.list(self.bucket, folder, self._last):
            offset = item.name[len(folder) :]
            if self._is_held or not _OFFSET.fullmatch(offset):
                continue
            content = self.store.content(self.bucket, item.name)
            if content is None:  # removed meanwhile; the next object shows the gap
                continue
            self._last = item.name
            found = self._give(int(offset), content) or found
        return found

    def _give(self, offset: int, content: bytes) -> bool:
        gap = offset - self.position
        if gap > 0 and self.is_whole:
            self._is_held = True
            return False
        if gap > 0:
            self.skipped(gap)
            self.position = offset
        new = content[self.position - offset :]
        if new:
            self.position += len(new)
            self.sink(new)
        return bool(new)

    def finish(self) -> bool:
        """Give the rest from the log of a job that is over; return whether there is a log.

        A log that is shorter than what was given was begun again by the job. It is given whole.
        Raises StorageError.
        """
        log = self.store.find(self.bucket, LOGS[self.name])
        if log is None:
            return False
        if log.size < self.position:
            self.position = 0
        tries = 0
        while self.position < log.size:
            try:
                for piece in self.store.read(self.bucket, log.name, self.position):
                    self.position += len(piece)
                    self.sink(piece)
                return True
            except StorageError:
                tries += 1
                if tries == _TRIES:
                    raise
        return True
