"""Groups of commands that import a command only when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import click

from leruli.wording import did_you_mean


class LazyGroup(click.Group):
    """A group whose commands are a module each, imported when it runs.

    `task-get` is `command` of the module `package.task_get`. `help_lines` maps each name to its
    line in the help of the group, so `--help` imports no command.
    """

    #: Words that people try, and the command to suggest for each.
    meant: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, *arguments: Any, package: str, help_lines: Mapping[str, str], **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._package = package
        self._help_lines = dict(sorted(help_lines.items()))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._help_lines)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._help_lines.items()))

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
        return did_you_mean(name, self._help_lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._help_lines:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command
