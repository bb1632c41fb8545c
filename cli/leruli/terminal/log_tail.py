"""The last lines of a log, for a person."""

from __future__ import annotations

import os
from pathlib import Path

#: The standard error of a job.
ERROR_LOG = "joberr.txt"

_MOST_LINES = 5
_LONGEST_LINE = 200
_READ_BYTES = 64 * 1024


def last_lines(path: Path) -> list[str]:
    """Return the last lines that are not blank, cut to 200 characters.

    Returns no lines for a file that cannot be read.
    """
    try:
        if not path.is_file():
            return []
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_BYTES))
            text = file.read(_READ_BYTES).decode(errors="replace")
    except OSError:
        return []
    lines = [line.strip("\r\n") for line in text.split("\n") if line.strip()]
    return [_cut(line) for line in lines[-_MOST_LINES:]]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"
