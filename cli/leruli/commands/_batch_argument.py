"""What names a batch of the queue: the argument of the batch- commands, the option of lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Body = TypeVar("_Body", bound=Callable[..., Any])


def batch_argument(body: _Body) -> _Body:
    """Add the argument BATCH."""
    return click.argument("batch", metavar="[BATCH]", required=False)(body)


def of_batch_option(help_text: str) -> Callable[[_Body], _Body]:
    """Add --batch, which chooses the jobs of a batch by its id or name."""
    return click.option("--batch", metavar="BATCH", help=help_text)
