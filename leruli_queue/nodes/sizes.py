"""How large machines are, and what is too large for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Size: TypeAlias = tuple[int, int]
"""Cores, and memory in MB."""


def one_fits(sizes: Iterable[Size], cores: int, memory_mb: int) -> bool:
    """Tell whether a node of these sizes, when it is empty, is large enough for a job."""
    return any(size[0] >= cores and size[1] >= memory_mb for size in sizes)
