"""The folders that --batch names."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from leruli.errors import NotFoundError


def means_folders(text: str) -> bool:
    """Return whether --batch names folders where it may name a batch of the queue too.

    A single folder has to end with a slash: a batch is named after the folder around its folders.
    """
    return text == "-" or text.endswith("/") or glob.has_magic(text) or Path(text).is_file()


def find_folders(pattern: str) -> list[str]:
    """Return the folders of --batch: a file with one per line ("-": standard input), or a glob.

    In a file, lines that begin with # are comments. Raises NotFoundError without a folder.
    """
    folders = _find(pattern)
    if not folders:
        raise NotFoundError(
            f"{pattern!r} is neither a file with names of folders nor a pattern that matches a "
            "folder. Put a pattern in quotes, so that the shell does not expand it."
        )
    return folders


def _find(pattern: str) -> list[str]:
    if pattern == "-":
        return _listed(sys.stdin)
    if Path(pattern).is_file():
        try:
            with Path(pattern).open(encoding="utf-8", errors="surrogateescape") as file:
                return _listed(file)
        except OSError as error:
            raise NotFoundError(f"Cannot read {pattern}: {error.strerror}.") from error
    # Not Path.glob, which takes no absolute pattern.
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    return _unique(name for name in found if Path(name).is_dir())


def _listed(lines: Iterable[str]) -> list[str]:
    stripped = (line.strip() for line in lines)
    return _unique(line for line in stripped if not line.startswith("#"))


def _unique(directories: Iterable[str]) -> list[str]:
    """Return the folders without blanks, and each once, even if it has several names."""
    return list({os.path.realpath(name): name for name in directories if name}.values())
