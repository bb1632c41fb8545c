"""Bringing the results of a job into a folder.

A file appears under its name when it is complete. Local files that a person changed or made stay:
the result is put beside them (`leruli.local_files`). Files that are as in the storage already are
not downloaded.

The record of the folder is written once, after the files. A crash before that leaves files of which
the record does not know that they were fetched. The next fetch finds that their content is the
object's; if the object changed meanwhile, the result is put beside them.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leruli.content import has_content
from leruli.errors import BucketMissingError, RefusedError, StorageAwayError, StorageError
from leruli.interruption import StopSwitch
from leruli.jobfolder import HISTORY
from leruli.local_files import INPUT_KIND, LocalFiles, link_target
from leruli.object_names import make_place, split_name, twins
from leruli.parts import part_in, sweep
from leruli.record import FileState, add_results
from leruli.submitting import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leruli.storage import Store, StoredObject

# Names of the input, which the user has.
_INPUT = frozenset({ARCHIVE, "run.sh"})

_THREADS = 8

# How an agent says what a file was on its node: permission bits, nanoseconds since 1970.
_MODE = re.compile("[0-7]{1,6}")
_MTIME = re.compile("[0-9]{1,19}")


@dataclass(frozen=True)
class Wanted:
    """What to fetch."""

    everything: bool = False  #: the archive of the input too
    again: bool = False  #: of many folders also those that were fetched before
    overwrite: bool = False  #: replace local files, also those that were changed
    with_input: bool = False  #: the input as it was submitted


@dataclass
class Fetched:
    """What came of fetching."""

    #: Where the results are, relative to the folder.
    files: list[str] = field(default_factory=list)
    #: Those of `files` that were there with the content of the storage.
    unchanged: list[str] = field(default_factory=list)
    #: Results that are beside a local file of their name, and where.
    beside: dict[str, str] = field(default_factory=dict)
    #: Links that a file took the place of.
    links: list[str] = field(default_factory=list)
    total_bytes: int = 0  #: downloaded
    #: Objects that were not fetched, and why.
    refused: dict[str, str] = field(default_factory=dict)
    #: The same of the submitted input, if that was asked for.
    input: Fetched | None = None

    @property
    def all_refused(self) -> dict[str, str]:
        """Everything that was not fetched, of the input too."""
        return {**self.refused, **(self.input.refused if self.input is not None else {})}

    def differences(self) -> list[str]:
        """Say of every local file that was not replaced where the other one is."""
        stays = "{} stays as it is here, as it is not what was submitted or fetched."
        told = [
            f"{stays.format(name)} The job's is beside it: {beside}"
            for name, beside in self.beside.items()
        ]
        if self.input is not None:
            told += [
                f"{stays.format(name)} The submitted one is beside it: {beside}"
                for name, beside in self.input.beside.items()
                if not is_beside_result(beside)
            ]
        return told


@dataclass(frozen=True)
class Arrival:
    """Where one file of the storage is in the folder."""

    name: str  #: where it is, relative to the folder
    is_new: bool = True  #: whether it was written just now
    was_link: bool = False  #: whether it took the place of a link


def select_results(store: Store, bucket: str, *, everything: bool = False) -> list[StoredObject]:
    """Return the objects of a bucket that are results; with `everything` the input too."""
    return [item for item in store.list(bucket) if everything or item.name not in _INPUT]


def fetch(
    store: Store,
    bucket: str,
    items: list[StoredObject],
    directory: str,
    advance: Callable[[int], None] = lambda _: None,
    threads: int = _THREADS,
    local: LocalFiles | None = None,
    is_over: bool = False,
) -> Fetched:
    """Download `items` into `directory`, beside local files that may not be replaced.

    `local` says which may; by default it is read from the folder. Names that would end up outside
    the folder are refused, one by one, as are those that Git or the client would take for their
    own; the others are fetched all the same, also when the storage does not give out one object.
    What was fetched is noted in the record of the folder. `is_over`: the job is over, so `items`
    are all of its results. Raises StorageError when the storage does not answer at all,
    RefusedError for a record that cannot be read or written.
    """
    fetched = Fetched()
    switch = StopSwitch(advance)
    local = local or LocalFiles.of(directory, bucket)
    bringing = _Bringing(store, bucket, local, switch.advance)
    sweep(bringing.root, _folders(items, local))
    taken = twins((item.name for item in items), bringing.root)

    def fetch_one(item: StoredObject) -> Arrival | str:
        try:
            if item.name in taken:
                raise RefusedError(
                    f"This file system would take it for {taken[item.name]}. Fetch into a folder "
                    "on another one to have both."
                )
            return bringing.bring(item)
        except RefusedError as error:
            return str(error)
        except (BucketMissingError, StorageAwayError):
            raise
        except StorageError as error:
            if not store.has_bucket(bucket):
                raise
            return str(error)  # this object's trouble alone
        except OSError as error:
            return f"{error.strerror or error}."

    pool = ThreadPoolExecutor(threads)
    is_whole = False
    try:
        for item, outcome in zip(items, pool.map(fetch_one, items)):
            if isinstance(outcome, str):
                fetched.refused[item.name] = outcome
            elif not item.name.endswith("/"):
                count_arrival(fetched, item.name, item.size, outcome)
        is_whole = is_over and not fetched.refused
    finally:
        switch.switch_off()  # matters after an error or Ctrl-C only
        pool.shutdown(cancel_futures=True)
        add_results(directory, bucket, bringing.states, are_all=is_whole)
    return fetched


def _folders(items: list[StoredObject], local: LocalFiles) -> set[str]:
    """Return the folders that results or submitted files are in, by their names."""
    names = [item.name for item in items]
    names += local.record.inputs if local.record is not None else ()
    return {name.rpartition("/")[0] for name in names}


def bring_input(
    store: Store, local: LocalFiles, results: list[StoredObject], advance: Callable[[int], None]
) -> Fetched:
    """Bring the submitted input; see `leruli.fetching_input`."""
    from leruli.fetching_input import fetch_input

    return fetch_input(store, local, {item.name for item in results}, advance)


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
    """Putting complete files into a folder, each under its name or beside the local file."""

    def __init__(self, local: LocalFiles, advance: Callable[[int], None]) -> None:
        self.root = Path(local.directory).resolve()
        self.local = local
        self.advance = advance
        #: Files as they were put or found, to be noted in the record.
        self.states: dict[str, FileState] = {}
        # An object may have the name that is chosen for what is put beside a file.
        self._choosing = threading.Lock()

    def put(self, part: Path, name: str, path: Path, sha256: str, kind: str = "") -> Arrival:
        """Put a complete file where it belongs. Raises OSError.

        The local file is looked at only now: it may have been edited during a long download.
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
        if self._may_replace(name, path):
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
            # An earlier state of the result may be replaced, as the record knows it.
            if not os.path.lexists(other) or self.local.known_state(beside, self.advance):
                part.replace(other)
                self.states[beside] = state
                return Arrival(beside)

    def note(self, name: str, path: Path) -> None:
        """Have a file that was found with the content of the storage noted in the record."""
        if self.local.record is None or name in self.states:
            return
        if self.local.known_state(name, self.advance) is None:
            self.states[name] = FileState.of(str(path), self.advance)

    def _may_replace(self, name: str, path: Path) -> bool:
        if self.local.may_replace(name, path, self.advance):
            return True
        # A link may lead to a file that came just now.
        target = link_target(self.local.directory, path)
        came = self.states.get(target) if target is not None else None
        return came is not None and came.is_at(str(path), self.advance)

    def _is_same(self, state: FileState, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != state.size:
            return False
        return FileState.of(str(path), self.advance).sha256 == state.sha256


class _Bringing(Placing):
    """Downloading the objects of one bucket."""

    def __init__(
        self, store: Store, bucket: str, local: LocalFiles, advance: Callable[[int], None]
    ) -> None:
        super().__init__(local, advance)
        self._store = store
        self._bucket = bucket

    def bring(self, item: StoredObject) -> Arrival:
        """Bring one object, unless the folder has it; for a name that ends in / make the folder."""
        name = item.name
        path = make_place(self.root, name)
        if name.endswith("/"):
            return Arrival(name)
        if os.path.lexists(path):
            if self._has(path, item):
                self.note(name, path)
                self.advance(item.size)
                return Arrival(name, is_new=False)
            if not self._may_replace(name, path):
                for beside in self.local.files_beside(name):
                    if self._has(self.root / beside, item):
                        self.note(beside, self.root / beside)
                        self.advance(item.size)
                        return Arrival(beside, is_new=False)
        with part_in(path.parent) as part:
            came = self._store.download(self._bucket, item, part, self.advance)
            set_mode_and_time(part, *_mode_and_time(came.metadata))
            return self.put(part, name, path, came.sha256)

    def _has(self, path: Path, item: StoredObject) -> bool:
        return path.is_file() and has_content(path, item.etag, item.size, self.advance)


def set_mode_and_time(path: Path, mode: int | None, mtime_ns: int | None) -> None:
    """Give a new file the permissions and the time that it had, as far as these are known.

    The umask takes away permissions, as it does for all new files.
    """
    with contextlib.suppress(OSError, OverflowError):
        if mode is not None:
            allowed = path.stat().st_mode & 0o666
            allowed |= (allowed & 0o444) >> 2
            path.chmod(mode & allowed | 0o400)
        if mtime_ns is not None:
            os.utime(path, ns=(mtime_ns, mtime_ns))


def _mode_and_time(metadata: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Read what a node said about a file. What is no such number is passed over."""
    mode, mtime = metadata.get("leruli-mode", ""), metadata.get("leruli-mtime", "")
    return (
        int(mode, 8) if _MODE.fullmatch(mode) else None,
        int(mtime) if _MTIME.fullmatch(mtime) else None,
    )


def not_here(
    items: list[StoredObject],
    directory: str,
    advance: Callable[[int], None] = lambda _: None,
    local: LocalFiles | None = None,
) -> list[str]:
    """Return the names of those of `items` that a folder does not hold, by name and content.

    With `local`, what was put beside a local file of the name counts too. Of a folder in
    `leruli.history` the one above, which has the other results, counts too. Nothing is changed.
    `advance` is called, with 0, while files are read.
    """
    roots = [Path(directory)]
    if roots[0].resolve().parent.name == HISTORY:
        roots.append(roots[0].resolve().parents[1])

    def is_here(item: StoredObject) -> bool:
        names = [item.name]
        if local is not None and not item.name.endswith("/"):
            names.extend(local.files_beside(item.name))
        return any(_is_at(root, name, item, advance) for root in roots for name in names)

    return [item.name for item in items if not is_here(item)]


def _is_at(root: Path, name: str, item: StoredObject, advance: Callable[[int], None]) -> bool:
    try:
        path = root.joinpath(*split_name(name))
        if name.endswith("/"):
            return path.is_dir()
        return path.is_file() and has_content(path, item.etag, item.size, advance)
    except (RefusedError, OSError):
        return False
