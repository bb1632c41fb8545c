"""Bringing the results of a job into a folder."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leruli.errors import BucketMissingError, RefusedError, StorageAwayError, StorageError
from leruli.interruption import StopSwitch
from leruli.jobfolder import BUCKET_FILE, JOB_FILE, replacing
from leruli.submitting import ARCHIVE

if TYPE_CHECKING:
    from leruli.storage import Store, StoredObject

# Names of the input, which the user has, and of the folder's own files, which must stay.
_INPUT = frozenset({ARCHIVE, "run.sh"})
_OWN = frozenset({JOB_FILE, BUCKET_FILE})

_THREADS = 8


@dataclass
class Fetched:
    """What came of fetching."""

    files: list[str] = field(default_factory=list)  #: relative to the folder
    total_bytes: int = 0
    #: Objects that were not fetched, and why.
    refused: dict[str, str] = field(default_factory=dict)


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
) -> Fetched:
    """Download `items` into `directory`, replacing files of the same names.

    A file appears under its name when it is complete. Names that would end up outside the folder
    are refused, one by one; the others are fetched all the same, also when the storage does not
    give out one object. Raises StorageError when it does not answer at all.
    """
    fetched = Fetched()
    root = Path(directory).resolve()
    switch = StopSwitch(advance)

    def fetch_one(item: StoredObject) -> str | None:
        try:
            path = _place(root, item.name)
            if not item.name.endswith("/"):
                with replacing(str(path)) as part:
                    store.download(bucket, item, Path(part), switch.advance)
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
        return None

    pool = ThreadPoolExecutor(threads)
    try:
        for item, problem in zip(items, pool.map(fetch_one, items)):
            if problem is not None:
                fetched.refused[item.name] = problem
            elif not item.name.endswith("/"):
                fetched.files.append(item.name)
                fetched.total_bytes += item.size
    finally:
        switch.switch_off()  # matters after an error or Ctrl-C only
        pool.shutdown(cancel_futures=True)
    return fetched


def not_here(items: list[StoredObject], directory: str) -> list[str]:
    """Return the names of those of `items` that a folder does not hold, by name and size.

    Nothing in the folder is changed, and no file is read.
    """
    root = Path(directory)
    return [item.name for item in items if not _is_here(root, item)]


def _is_here(root: Path, item: StoredObject) -> bool:
    try:
        path = root.joinpath(*_parts(item.name))
        if item.name.endswith("/"):
            return path.is_dir()
        return path.is_file() and path.stat().st_size == item.size
    except (RefusedError, OSError):
        return False


def _parts(name: str) -> list[str]:
    """Return the parts of an object's name as a path below the folder; raises RefusedError."""
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise RefusedError("The name leads out of the folder.")
    if name in _OWN:
        raise RefusedError("It would replace a file that the client needs.")
    return parts


def _place(root: Path, name: str) -> Path:
    """Where an object belongs under `root`, its parent folders made; raises RefusedError."""
    parts = _parts(name)
    folder = root
    for part in parts if name.endswith("/") else parts[:-1]:
        folder = folder / part
        if folder.is_symlink() and root not in folder.resolve().parents:
            raise RefusedError(f"{folder} is a link that leads out of the folder.")
        folder.mkdir(exist_ok=True)
    # A link in the file's own place is replaced by the file, not followed.
    return root.joinpath(*parts)
