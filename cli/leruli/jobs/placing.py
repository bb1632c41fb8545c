"""Putting fetched files into a folder, each under its name or beside the local file."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from leruli.cancellation import CheckCancelled
from leruli.folder.local_files import INPUT_KIND, LocalFiles, link_target
from leruli.folder.record import FileState


@dataclass
class Fetched:
    """The outcome of fetching."""

    #: The paths of the results, relative to the folder.
    files: list[str] = field(default_factory=list)
    #: Those of `files` that already had the content of the storage.
    unchanged: list[str] = field(default_factory=list)
    #: Results that were put beside a local file of their name, and their paths.
    beside: dict[str, str] = field(default_factory=dict)
    #: Links that were replaced by a file.
    links: list[str] = field(default_factory=list)
    total_bytes: int = 0  #: downloaded
    #: Objects that were not fetched, each with the reason.
    refused: dict[str, str] = field(default_factory=dict)
    #: The outcome for the submitted input, if that was requested.
    input: Fetched | None = None

    @property
    def all_refused(self) -> dict[str, str]:
        """Everything that was not fetched, including the input."""
        return {**self.refused, **(self.input.refused if self.input is not None else {})}

    def differences(self) -> list[str]:
        """Return a sentence per local file that was not replaced, with the path of the new file."""
        stays = "{} stays as it is here, as it is not what was submitted or fetched."
        sentences = [
            f"{stays.format(name)} The job's is beside it: {beside}"
            for name, beside in self.beside.items()
        ]
        if self.input is not None:
            sentences += [
                f"{stays.format(name)} The submitted one is beside it: {beside}"
                for name, beside in self.input.beside.items()
                if not is_beside_result(beside)
            ]
        return sentences


@dataclass(frozen=True)
class Arrival:
    """The path of one fetched file in the folder."""

    name: str  #: relative to the folder
    is_new: bool = True  #: whether it was written just now
    was_link: bool = False  #: whether it took the place of a link


def is_beside_result(beside: str) -> bool:
    """Whether a file is submitted input that was put beside a result of the same name."""
    return INPUT_KIND in beside.rpartition(".leruli-")[2]


def count_arrival(fetched: Fetched, name: str, size: int, arrival: Arrival) -> None:
    """Note in `fetched` where the file `name` of `size` bytes is."""
    fetched.files.append(arrival.name)
    if arrival.name != name:
        fetched.beside[name] = arrival.name
    if arrival.was_link:
        fetched.links.append(arrival.name)
    if arrival.is_new:
        fetched.total_bytes += size
    else:
        fetched.unchanged.append(arrival.name)


class Placing:
    """Puts complete files into a folder, each under its name or beside the local file."""

    def __init__(self, local: LocalFiles, check_cancelled: CheckCancelled) -> None:
        self.root = Path(local.directory).resolve()
        self.local = local
        self.check_cancelled = check_cancelled
        #: The states of files that were put or found, for the record.
        self.states: dict[str, FileState] = {}
        # An object may have the same name as a file that is put beside another.
        self._choosing = threading.Lock()

    def put(self, part: Path, name: str, path: Path, sha256: str, kind: str = "") -> Arrival:
        """Put a complete file at its place. Raises OSError.

        The local file is compared only now: it may have been edited during a long download.
        """
        found = part.stat()
        state = FileState(found.st_size, found.st_mtime_ns, sha256)
        with self._choosing:
            return self._put(part, name, path, state, kind)

    def _put(self, part: Path, name: str, path: Path, state: FileState, kind: str) -> Arrival:
        if not os.path.lexists(path):
            part.replace(path)
            self.states[name] = state
            return Arrival(name)
        if self._is_same(state, path):
            self.note(name, path)
            return Arrival(name, is_new=False)
        if self.may_replace(name, path):
            was_link = path.is_symlink()
            part.replace(path)
            self.states[name] = state
            return Arrival(name, was_link=was_link)
        names = self.local.names_beside(name, kind)
        while True:
            beside = next(names)
            other = self.root / beside
            if self._is_same(state, other):
                self.note(beside, other)
                return Arrival(beside, is_new=False)
            # The record knows an earlier state of the result, so that may be replaced.
            if not os.path.lexists(other) or self.local.known_state(beside, self.check_cancelled):
                part.replace(other)
                self.states[beside] = state
                return Arrival(beside)

    def note(self, name: str, path: Path) -> None:
        """Record a file that already has the content of the storage."""
        if self.local.record is None or name in self.states:
            return
        if self.local.known_state(name, self.check_cancelled) is None:
            self.states[name] = FileState.of(str(path), self.check_cancelled)

    def may_replace(self, name: str, path: Path) -> bool:
        """Whether nobody loses work if the file at `path` is replaced. Raises OSError."""
        if self.local.may_replace(name, path, self.check_cancelled):
            return True
        # A link may lead to a file that was fetched just now.
        target = link_target(self.local.directory, path)
        came = self.states.get(target) if target is not None else None
        return came is not None and came.is_at(str(path), self.check_cancelled)

    def _is_same(self, state: FileState, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != state.size:
            return False
        return FileState.of(str(path), self.check_cancelled).sha256 == state.sha256


def set_mode_and_time(path: Path, mode: int | None, mtime_ns: int | None) -> None:
    """Give a new file its permissions and time, as far as they are known.

    The umask limits the permissions, as for all new files.
    """
    with contextlib.suppress(OSError, OverflowError):
        if mode is not None:
            allowed = path.stat().st_mode & 0o666
            allowed |= (allowed & 0o444) >> 2
            path.chmod(mode & allowed | 0o400)
        if mtime_ns is not None:
            os.utime(path, ns=(mtime_ns, mtime_ns))
