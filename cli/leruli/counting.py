"""Numbers of things in sentences."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: "1 file", "2 files"; `several` for a noun that takes no s."""
    return f"{number} {one if number == 1 else several or one + 's'}"
