"""`leruli group remove-node`."""

from __future__ import annotations

import click

from leruli.commands._common import confirm, verb
from leruli.commands.group._secrets import admin_settings
from leruli.counting import counted
from leruli.output import Output


@click.command("remove-node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("node")
@verb(interrupted="Look with `leruli group nodes` whether the node was removed.")
def command(out: Output, yes: bool, node: str) -> None:
    """Remove NODE (a name or an id) for good. Needs the secret of an admin.

    What runs on it is stopped and runs elsewhere. The machine can join again as a new node; to take
    that away from it, rotate the compute secret.
    """
    confirm(
        f"What runs on {node} is stopped and runs elsewhere. Remove it for good?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        answer = group.remove_node(node)
    jobs = counted(answer["requeued"], "job")
    out.done(f"{answer['name']} is removed; {jobs} went back to the queue.", answer)
