"""Shared by the batch- commands: the argument that names a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Body = TypeVar("_Body", bound=Callable[..., Any])


def batch_argument(body: _Body) -> _Body:
    """Add the argument BATCH."""
    return click.argument("batch", metavar="[BATCH]", required=False)(body)
