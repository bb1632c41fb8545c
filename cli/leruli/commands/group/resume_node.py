"""`leruli group resume-node`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output


@click.command("resume-node")
@click.argument("node")
@client_command(interrupted="`leruli group nodes` shows whether the node gets jobs again.")
def command(out: Output, node: str) -> None:
    """Give NODE (a name or an id) jobs again: it was drained, or it failed several in a row.

    Needs the secret of an admin.
    """
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        answer = group.resume_node(node)
    out.done(f"{answer['name']} gets jobs again.", answer)
