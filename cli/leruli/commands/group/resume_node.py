"""`leruli group resume-node`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output


@click.command("resume-node")
@click.argument("node")
@verb(interrupted="Look with `leruli group nodes` whether the node is in service again.")
def command(out: Output, node: str) -> None:
    """Give NODE (a name or an id) jobs again: it was drained, or it failed several in a row.

    Needs the secret of an admin.
    """
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        answer = group.resume_node(node)
    out.done(f"{answer['name']} gets jobs again.", answer)
