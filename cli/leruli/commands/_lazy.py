"""Groups of verbs of which only the one that is run is imported."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose verbs are a module each, imported when it is asked for.

    `verb-name` is the `command` of `package.verb_name`.
    """

    def __init__(self, *arguments: Any, package: str, verbs: Sequence[str], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._package = package
        self._verbs = sorted(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._verbs

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command
