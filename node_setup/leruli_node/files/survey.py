"""Finds the files of an output that become objects, and those that go into an archive."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from leruli_node.files.input_list import InputList
from leruli_node.files.walk import Entry, Skipped, walk
from leruli_node.objects.job_bucket import INPUT
from leruli_node.objects.live_names import is_live
from leruli_node.retry import Stop

LOGS = ("joblog.txt", "joberr.txt")
_SCRIPT = "run.sh"
# Mean bytes of the names of all objects of an output, for each file that is allowed.
_MEAN_KEY = 100
# Files with several names that are remembered.
_MOST_LINKED = 100_000


class Sorter:
    """Decides for each entry of a walk whether it becomes an object; the same in each walk."""

    def __init__(self, most_files: int) -> None:
        self._most = most_files
        self._names = most_files * _MEAN_KEY
        self._files = 0

    def reason(self, entry: Entry) -> str | None:
        """Return why an entry belongs in the archive of the rest, None if it does not."""
        if entry.key == _SCRIPT:
            return None
        unfit = entry.unfit()
        if unfit or entry.key in LOGS:
            return unfit
        if entry.key == INPUT or is_live(entry.key):
            return "files with a reserved name"
        if self.is_full:
            return f"files after the first {self._most}"
        self._files += 1
        self._names -= len(entry.key.encode())
        return None

    @property
    def is_full(self) -> bool:
        """Whether the maximum of objects is reached."""
        return self._files >= self._most or self._names < 0


@dataclass
class DiskSum:
    """The bytes on disk of files. Of those with several names the first ones are counted once."""

    bytes: int = 0
    # Files with several names.
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def add(self, facts: os.stat_result) -> None:
        """Count a file, unless another name of it was counted."""
        if facts.st_nlink > 1 and len(self._seen) < _MOST_LINKED:
            if (facts.st_dev, facts.st_ino) in self._seen:
                return
            self._seen.add((facts.st_dev, facts.st_ino))
        self.bytes += facts.st_blocks * 512


@dataclass(frozen=True)
class Output:
    """A job's output: `top`, a descriptor of its folder, and the list of its input."""

    top: int
    inputs: InputList
    stop: Stop

    def entries(self, skipped: Skipped, disk: DiskSum | None = None) -> Iterator[Entry]:
        """Yield entries as `walk` does, without unchanged input files; the same each time.

        `disk` counts all of them.

        Raises
        ------
        OSError
            The disk failed, not only one file.
        StoppedError
            `stop` is set.
        """
        entries = walk(self.top, skipped)
        try:
            for entry in entries:
                if disk is not None:
                    disk.add(entry.facts)
                # The logs are always uploaded.
                if entry.key in LOGS or not self.inputs.has_unchanged(entry, self.stop):
                    yield entry
        finally:
            entries.close()  # type: ignore[attr-defined]


@dataclass
class Survey:
    """The output before it is sent: objects with their sizes in bytes, and the rest."""

    sizes: dict[str, int] = field(default_factory=dict)
    has_rest: bool = False
    unreadable: Skipped = field(default_factory=Skipped)
    skipped: Skipped = field(default_factory=Skipped)
    # Of all that was looked at, input too.
    disk: DiskSum = field(default_factory=DiskSum)


def survey(output: Output, most_files: int) -> Survey:
    """Survey an output. At most `most_files` become objects. Raises the errors of `entries`."""
    found, sorter = Survey(), Sorter(most_files)
    for key in LOGS:
        with contextlib.suppress(FileNotFoundError):
            facts = os.stat(key, dir_fd=output.top, follow_symlinks=False)
            if stat.S_ISREG(facts.st_mode):
                found.sizes[key] = facts.st_size
    entries = output.entries(found.skipped, found.disk)
    for entry in entries:
        if sorter.reason(entry) is not None:
            found.has_rest = True
            if sorter.is_full:
                entries.close()  # type: ignore[attr-defined]
                break
        elif entry.key not in (*LOGS, _SCRIPT):
            descriptor = entry.open(found.unreadable)
            if descriptor is not None:
                os.close(descriptor)
                found.sizes[entry.key] = entry.facts.st_size
    return found
