"""`leruli group drain-node`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output


@click.command("drain-node")
@click.option(
    "--deadline",
    type=click.FloatRange(min=0),
    help="Seconds after which what runs goes back to the queue. [default: it runs to its end]",
)
@click.argument("node")
@verb(interrupted="Look with `leruli group nodes` whether the node was drained.")
def command(out: Output, deadline: float | None, node: str) -> None:
    """Give NODE (a name or an id) no more jobs. Needs the secret of an admin.

    It stays so, also after a restart of the machine, until `leruli group resume-node`.
    """
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        answer = group.drain_node(node, deadline)
    out.done(f"{answer['name']} gets no more jobs.", answer)
