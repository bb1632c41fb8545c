"""The path of an object in a folder. Names that would do harm are refused."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from leruli.errors import RefusedError
from leruli.folder.job_folder import (
    BUCKET_FILE,
    HISTORY,
    JOB_FILE,
    JOURNAL_PREFIX,
    PART_PREFIX,
    RECORD_FILE,
)

# Files of the client, which must stay.
_OWN = frozenset({JOB_FILE, BUCKET_FILE, RECORD_FILE, HISTORY})

# As Git does: characters that some file systems ignore, and the names of .git on Windows.
_PASSED_OVER = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_GIT = frozenset({".git", "git~1"})


def split_name(name: str) -> list[str]:
    """Return the parts of an object's name as a path below the folder; raises RefusedError.

    A file system may ignore case, so names are compared without it.
    """
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise RefusedError("The name leads out of the folder.")
    alike = [_as_a_file_system_may_see_it(part) for part in parts]
    if alike[0] in _OWN or alike[0].startswith((JOURNAL_PREFIX, PART_PREFIX)):
        raise RefusedError("It would replace a file that the client needs.")
    if not _GIT.isdisjoint(alike):
        raise RefusedError("Git would take commands from it. You can look at it in the storage.")
    return parts


def _as_a_file_system_may_see_it(part: str) -> str:
    seen = unicodedata.normalize("NFKC", _PASSED_OVER.sub("", part)).casefold()
    return seen.partition(":")[0].rstrip(" .")


def make_place(root: Path, name: str) -> Path:
    """Return the path of an object under `root`, and make its parent folders.

    Raises RefusedError and OSError.
    """
    parts = split_name(name)
    folder = root
    for part in parts if name.endswith("/") else parts[:-1]:
        folder = folder / part
        if folder.is_symlink() and root not in folder.resolve().parents:
            raise RefusedError(f"{folder} is a link that leads out of the folder.")
        folder.mkdir(exist_ok=True)
    # A link at the path itself is replaced by the file, not followed.
    return root.joinpath(*parts)


def twins(names: Iterable[str], root: Path) -> dict[str, str]:
    """Return the names that this file system confuses with an earlier name, which is the value."""
    first: dict[str, str] = {}
    found = {}
    for name in names:
        earlier = first.setdefault(name.casefold(), name)
        if earlier != name:
            found[name] = earlier
    return found if found and ignores_case(root) else {}


def ignores_case(root: Path) -> bool:
    """Whether the file system ignores case in names."""
    probe = root / f"{PART_PREFIX}case-{secrets.token_hex(6)}"
    probe.touch()
    try:
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink()
