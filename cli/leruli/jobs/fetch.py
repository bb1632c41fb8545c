"""Fetching the results of a job into a folder.

A file appears under its name when it is complete. Local files that a person changed or made stay:
the result is put beside them (`leruli.folder.local_files`). Files that already have the content of
the storage are not downloaded.

The record of the folder is written once, after the files. After a crash before that the record does
not know the fetched files. The next fetch recognises them by their content. If the object changed
meanwhile, the result is put beside them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leruli.cancellation import CheckCancelled, StopSwitch
from leruli.errors import BucketMissingError, RefusedError, StorageAwayError, StorageError
from leruli.folder.job_folder import HISTORY, LIVE_PREFIX
from leruli.folder.local_files import LocalFiles
from leruli.folder.object_paths import make_place, split_name, twins
from leruli.folder.part_files import part_in, sweep
from leruli.folder.record import add_results
from leruli.jobs.placing import Arrival, Fetched, Placing, count_arrival, set_mode_and_time
from leruli.jobs.submit import ARCHIVE
from leruli.storage.etag import has_content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leruli.storage.store import Store, StoredObject

# The input, which the user has already.
_INPUT = frozenset({ARCHIVE, "run.sh"})

_THREADS = 8

# The metadata that a node agent stores: permission bits, nanoseconds since 1970.
_MODE = re.compile("[0-7]{1,6}")
_MTIME = re.compile("[0-9]{1,19}")


@dataclass(frozen=True)
class Wanted:
    """What to fetch."""

    everything: bool = False  #: also the archive of the input
    again: bool = False  #: of many folders also those that were fetched before
    overwrite: bool = False  #: replace local files, also those that were changed
    with_input: bool = False  #: the input as it was submitted


def select_results(store: Store, bucket: str, *, everything: bool = False) -> list[StoredObject]:
    """Return the results in a bucket, without live output; with `everything` also the input."""
    return [
        item
        for item in store.list(bucket)
        if not item.name.startswith(LIVE_PREFIX) and (everything or item.name not in _INPUT)
    ]


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
    """Download `items` into `directory` and record them in the folder.

    Names that lead out of the folder, and names that belong to Git or the client, are refused one
    by one. An object that the storage does not give out is refused too. The others are fetched.

    Parameters
    ----------
    local
        Says which local files may be replaced; read from the folder by default. Results are put
        beside the others.
    is_over
        The job is over, so `items` are all of its results.

    Raises
    ------
    StorageError
        The storage does not answer at all.
    RefusedError
        The record cannot be read or written.
    """
    fetched = Fetched()
    switch = StopSwitch(advance)
    local = local or LocalFiles.of(directory, bucket)
    bringing = _Bringing(store, bucket, local, switch)
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
            return str(error)  # the failure concerns this object alone
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
    """Return the names of the folders that hold results or submitted files."""
    names = [item.name for item in items]
    names += local.record.inputs if local.record is not None else ()
    return {name.rpartition("/")[0] for name in names}


class _Bringing(Placing):
    """Downloads the objects of one bucket."""

    def __init__(self, store: Store, bucket: str, local: LocalFiles, switch: StopSwitch) -> None:
        super().__init__(local, switch.check_cancelled)
        self.advance = switch.advance
        self._store = store
        self._bucket = bucket

    def bring(self, item: StoredObject) -> Arrival:
        """Fetch one object unless the folder has it; for a name that ends in / make the folder."""
        name = item.name
        path = make_place(self.root, name)
        if name.endswith("/"):
            return Arrival(name)
        if os.path.lexists(path):
            if self._has(path, item):
                self.note(name, path)
                self.advance(item.size)
                return Arrival(name, is_new=False)
            if not self.may_replace(name, path):
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
        return path.is_file() and has_content(path, item.etag, item.size, self.check_cancelled)


def _mode_and_time(metadata: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the mode and time that a node agent stored; invalid values are ignored."""
    mode, mtime = metadata.get("leruli-mode", ""), metadata.get("leruli-mtime", "")
    return (
        int(mode, 8) if _MODE.fullmatch(mode) else None,
        int(mtime) if _MTIME.fullmatch(mtime) else None,
    )


def not_here(
    items: list[StoredObject],
    directory: str,
    check_cancelled: CheckCancelled = lambda: None,
    local: LocalFiles | None = None,
) -> list[str]:
    """Return the names of the `items` that a folder does not hold, by name and content.

    With `local`, a file that was put beside a local file counts too. For a folder in
    `leruli.history` the job folder above it counts too: it has the other results. Changes nothing.
    `check_cancelled` is called while files are read.
    """
    roots = [Path(directory)]
    if roots[0].resolve().parent.name == HISTORY:
        roots.append(roots[0].resolve().parents[1])

    def is_here(item: StoredObject) -> bool:
        names = [item.name]
        if local is not None and not item.name.endswith("/"):
            names.extend(local.files_beside(item.name))
        return any(_is_at(root, name, item, check_cancelled) for root in roots for name in names)

    return [item.name for item in items if not is_here(item)]


def _is_at(root: Path, name: str, item: StoredObject, check_cancelled: CheckCancelled) -> bool:
    try:
        path = root.joinpath(*split_name(name))
        if name.endswith("/"):
            return path.is_dir()
        return path.is_file() and has_content(path, item.etag, item.size, check_cancelled)
    except (RefusedError, OSError):
        return False
