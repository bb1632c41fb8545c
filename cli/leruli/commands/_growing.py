"""Limits that may grow when a job is tried again: FIRST or FIRST:MOST."""

from __future__ import annotations

from typing import NamedTuple

import click


class Growing(NamedTuple):
    """A limit of the first attempt, and up to which it is doubled; None: it stays."""

    first: int
    most: int | None = None


def growing(text: str) -> Growing:
    """Read FIRST or FIRST:MOST, whole numbers from 1 on. Raises click.BadParameter."""
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(
            f"{text!r} is neither a whole number from 1 on nor two of them, such as 60 or 60:600. "
            "Memory is in MB, time in minutes."
        )
    first, *most = (int(part) for part in parts)
    if most and most[0] < first:
        raise click.BadParameter(f"{text!r}: the most is less than the first.")
    return Growing(first, most[0] if most else None)
