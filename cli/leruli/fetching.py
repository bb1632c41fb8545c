"""Bringing the results of a job into a folder."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leruli.content import has_content
from leruli.errors import BucketMissingError, RefusedError, StorageAwayError, StorageError
from leruli.interruption import StopSwitch
from leruli.jobfolder import (
    BUCKET_FILE,
    HISTORY,
    JOB_FILE,
    JOURNAL_PREFIX,
    PART_PREFIX,
    replacing,
)
from leruli.submitting import ARCHIVE

if TYPE_CHECKING:
    from leruli.storage import Store, StoredObject

# Names of the input, which the user has, and of the folder's own files, which must stay.
_INPUT = frozenset({ARCHIVE, "run.sh"})
_OWN = frozenset({JOB_FILE, BUCKET_FILE, HISTORY})

# As Git does: what some file systems pass over in a name, and what Windows also calls .git.
_PASSED_OVER = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_GIT = frozenset({".git", "git~1"})

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
    are refused, one by one, as are those that Git or the client would take for their own; the
    others are fetched all the same, also when the storage does not give out one object. Raises
    StorageError when it does not answer at all.
    """
    fetched = Fetched()
    root = Path(directory).resolve()
    switch = StopSwitch(advance)
    twins = _twins(items)
    if twins and not _ignores_case(root):
        twins = {}

    def fetch_one(item: StoredObject) -> str | None:
        try:
            if item.name in twins:
                raise RefusedError(
                    f"This file system would take it for {twins[item.name]}. Fetch into a folder "
                    "on another one to have both."
                )
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


def not_here(
    items: list[StoredObject],
    directory: str,
    advance: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Return the names of those of `items` that a folder does not hold, by name and content.

    Of a folder in `leruli.history` the one above, which has the other results, counts too. Nothing
    is changed. `advance` is called, with 0, while files are read.
    """
    roots = [Path(directory)]
    if roots[0].resolve().parent.name == HISTORY:
        roots.append(roots[0].resolve().parents[1])
    return [item.name for item in items if not any(_is_here(root, item, advance) for root in roots)]


def _is_here(root: Path, item: StoredObject, advance: Callable[[int], None]) -> bool:
    try:
        path = root.joinpath(*_parts(item.name))
        if item.name.endswith("/"):
            return path.is_dir()
        return path.is_file() and has_content(path, item.etag, item.size, advance)
    except (RefusedError, OSError):
        return False


def _parts(name: str) -> list[str]:
    """Return the parts of an object's name as a path below the folder; raises RefusedError.

    A file system may take names for the same that differ in case.
    """
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise RefusedError("The name leads out of the folder.")
    alike = [_as_a_file_system_may_see_it(part) for part in parts]
    if alike[0] in _OWN or alike[0].startswith((JOURNAL_PREFIX, PART_PREFIX)):
        raise RefusedError("It would replace a file that the client needs.")
    if not _GIT.isdisjoint(alike):
        raise RefusedError(
            "Git would take commands from it. It is in the storage, to be looked at."
        )
    return parts


def _as_a_file_system_may_see_it(part: str) -> str:
    seen = unicodedata.normalize("NFKC", _PASSED_OVER.sub("", part)).casefold()
    return seen.partition(":")[0].rstrip(" .")


def _twins(items: list[StoredObject]) -> dict[str, str]:
    """Return the names that differ from an earlier one in case alone, and that one for each."""
    first: dict[str, str] = {}
    twins = {}
    for item in items:
        earlier = first.setdefault(item.name.casefold(), item.name)
        if earlier != item.name:
            twins[item.name] = earlier
    return twins


def _ignores_case(root: Path) -> bool:
    """Whether the file system takes names for the same that differ in case."""
    probe = root / f"{PART_PREFIX}case-{secrets.token_hex(6)}"
    probe.touch()
    try:
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink()


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
