"""`leruli group drain-node`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output


@click.command("drain-node")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0),
    help="Seconds after which running jobs are requeued. [default: they run to their end]",
)
@click.argument("node")
@client_command(interrupted="`leruli group nodes` shows whether the node was drained.")
def command(out: Output, deadline: float | None, node: str) -> None:
    """Give NODE (a name or an id) no more jobs. Needs the secret of an admin.

    This lasts until `leruli group resume-node`, also after a restart of the machine.
    """
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        answer = group.drain_node(node, deadline)
    out.done(f"{answer['name']} gets no more jobs.", answer)
