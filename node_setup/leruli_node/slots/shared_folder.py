"""The folder of a shared container, and the moves of a job's files in and out.

| in the folder | what |
|---|---|
| record.json | whom the container serves, and the attempt that it runs; no container sees it |
| control | the container's /leruli, read-only: the agent's socket, and the runner |
| rundir | the container's /rundir: only the files of the attempt that runs |
| nomad | the container's /alloc, /local and /secrets, empty |

A move is a rename within one file system. It can be repeated after a crash in the middle.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from leruli_node.files.trash import Trash
from leruli_node.folders import with_ballast, write_file
from leruli_node.model import AttemptId, known_fields

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# In the folder of an attempt.
END_FILE = "shared-end.json"
# What a job that is root in its container can set on /rundir itself.
_LISTS = ("system.posix_acl_access", "system.posix_acl_default")


@dataclass(frozen=True)
class Kind:
    """Whom a shared container serves. Attempts that differ in anything do not share one."""

    # The key of the slot's first attempt. A slot is of one group.
    slot: str
    # Differs between users.
    user: str
    # Docker's id of the image: an image that is published again has another one.
    image: str
    cores: int
    memory_mb: int


@dataclass(frozen=True)
class SharedRecord:
    """The agent's notes of a shared container, from which the next agent continues it."""

    id: str
    kind: Kind
    # The attempt whose files are in rundir; "" before the first one.
    job: str = ""
    attempt: int = 0
    # When it began: seconds since 1970, and by clock.py.
    started_at: float = 0.0
    started_boottime: float = 0.0
    # Whether TERM or KILL was sent to it.
    is_signalled: bool = False

    @property
    def current(self) -> AttemptId | None:
        """The attempt whose files are in rundir."""
        return AttemptId(self.job, self.attempt) if self.job else None

    @classmethod
    def read(cls, folder: Path) -> SharedRecord | None:
        """Return the record of a folder, None if there is none that can be read."""
        try:
            values = json.loads((folder / "record.json").read_bytes())
            values["kind"] = Kind(**known_fields(Kind, values["kind"]))
            return cls(**known_fields(cls, values))
        except (OSError, ValueError, TypeError, KeyError):
            return None


@dataclass(frozen=True)
class JobEnd:
    """How an attempt ended in a shared container: a file in the attempt's own folder.

    No container sees it. It is written before the container runs another attempt.
    """

    # None: the container vanished with the attempt.
    exit_code: int | None
    started_at: float
    started_boottime: float
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    # Without page cache. 0: not known.
    peak_no_cache_bytes: int = 0
    is_out_of_memory: bool = False
    is_signalled: bool = False

    @classmethod
    def read(cls, job: Path) -> JobEnd | None:
        """Return the end of the attempt with this folder, None if it has not ended."""
        try:
            return cls(**known_fields(cls, json.loads((job / END_FILE).read_bytes())))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, job: Path) -> None:
        """Store it; nothing happens where the attempt's folder is gone. Raises OSError.

        A file that is cut by the end of the agent counts as none. The runner then tells it again.
        """
        path = job / END_FILE
        with contextlib.suppress(FileNotFoundError):
            with_ballast(path, lambda: self._write(path))

    def _write(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, json.dumps(vars(self)).encode())
        finally:
            os.close(descriptor)


class SharedFolder:
    """The folder of one shared container. `take` makes a folder the agent's (rootless Docker)."""

    def __init__(self, path: Path, trash: Trash, take: Callable[[Path], bool]) -> None:
        self.path = path
        self.control = path / "control"
        self.rundir = path / "rundir"
        self._trash = trash
        self._take = take

    def make(self, mounted: Sequence[Path]) -> None:
        """Make the folders; `mounted` are those that the container mounts. Raises OSError."""
        self.path.mkdir(mode=0o700)
        for folder in {self.control, self.rundir, *mounted}:
            folder.mkdir(parents=True, exist_ok=True)
            # For the user of any image.
            folder.chmod(0o777)
        self.control.chmod(0o755)
        # The runner is mounted here. Docker cannot make the file, as the folder is read-only.
        (self.control / "runner").touch()

    def save(self, record: SharedRecord) -> None:
        """Store the record. Raises OSError."""
        # After a power cut the container is gone.
        data = json.dumps(asdict(record)).encode()
        write_file(self.path / "record.json", data, sync=False)

    def move_in(self, job: Path) -> None:
        """Move the files of a job's folder into rundir. Raises OSError."""
        try:
            _reset(self.rundir)
        except PermissionError:
            if not self._take(self.rundir):
                raise
            _reset(self.rundir)
        _move_all(job / "rundir", self.rundir)

    def move_out(self, job: Path) -> None:
        """Move the files of rundir back into a job's folder, or away if that is gone.

        Raises OSError.
        """
        target = job / "rundir"
        if not target.is_dir():
            self.empty()
            return
        self._move_from_rundir(target)

    def empty(self) -> None:
        """Remove what is left in rundir. Raises OSError."""
        if not os.listdir(self.rundir):
            return
        left = self.path / f"left-{secrets.token_hex(4)}"
        left.mkdir(mode=0o700)
        self._move_from_rundir(left)
        self._trash.put(left)

    def remove(self) -> None:
        """Remove the whole folder."""
        self._trash.put(self.path)

    def _move_from_rundir(self, target: Path) -> None:
        try:
            _move_all(self.rundir, target)
        except PermissionError:
            # With rootless Docker: a folder of another user of the container.
            if not self._take(self.rundir):
                raise
            _move_all(self.rundir, target)


def _reset(rundir: Path) -> None:
    """Give /rundir itself the owner, mode and access lists that it had at first."""
    if rundir.stat().st_uid != os.getuid():
        os.chown(rundir, os.getuid(), os.getgid())
    rundir.chmod(0o777)
    for name in _LISTS:
        try:
            os.removexattr(rundir, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise


def _move_all(source: Path, target: Path) -> None:
    with contextlib.ExitStack() as opened:
        ends = []
        for folder in (source, target):
            descriptor = os.open(folder, _OPEN)
            opened.callback(os.close, descriptor)
            ends.append(descriptor)
        for name in os.listdir(ends[0]):
            os.rename(name, name, src_dir_fd=ends[0], dst_dir_fd=ends[1])


def changed(record: SharedRecord, attempt: AttemptId, now: float, boottime: float) -> SharedRecord:
    """Return the record of a container that begins an attempt."""
    return replace(
        record,
        job=attempt.job,
        attempt=attempt.attempt,
        started_at=now,
        started_boottime=boottime,
        is_signalled=False,
    )
