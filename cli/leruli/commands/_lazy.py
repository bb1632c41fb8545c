"""Groups of verbs of which only the one that is run is imported."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import click

from leruli.suggestions import did_you_mean


class LazyGroup(click.Group):
    """A group whose verbs are a module each, imported when it is asked for.

    `verb-name` is the `command` of `package.verb_name`.
    """

    #: Words that people try, and the command that they mean, as it is written.
    meant: ClassVar[Mapping[str, str]] = {}

    def __init__(self, *arguments: Any, package: str, verbs: Sequence[str], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._package = package
        self._verbs = sorted(verbs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._verbs

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise click.UsageError(
                f"There is no command {name!r}.{self._suggestion(name)} "
                f"`{ctx.command_path} --help` lists all.",
                ctx,
            )
        return super().resolve_command(ctx, args)

    def _suggestion(self, name: str) -> str:
        if name in self.meant:
            return f" Did you mean {self.meant[name]}?"
        return did_you_mean(name, self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command
