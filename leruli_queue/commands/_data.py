"""The option ``--data`` of the commands that work on a one-machine stack."""

from __future__ import annotations

import os
from pathlib import Path

import click


def _default_data() -> Path:
    share = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(share) / "leruli-queue"


data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=_default_data,
    show_default="~/.local/share/leruli-queue",
    help="Folder of the stack, with all its data.",
)
