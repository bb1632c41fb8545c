"""`leruli group remove-node`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command, confirm
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output
from leruli.wording import counted


@click.command("remove-node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("node")
@client_command(interrupted="`leruli group nodes` shows whether the node was removed.")
def command(out: Output, yes: bool, node: str) -> None:
    """Remove NODE (a name or an id) for good. Needs the secret of an admin.

    Its running jobs are stopped and run elsewhere. The machine can join again as a new node. To
    prevent that, rotate the compute secret.
    """
    confirm(
        f"The running jobs of {node} are stopped and run elsewhere. Remove it for good?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        answer = group.remove_node(node)
    jobs = counted(answer["requeued"], "job")
    out.done(f"{answer['name']} is removed; {jobs} went back to the queue.", answer)
