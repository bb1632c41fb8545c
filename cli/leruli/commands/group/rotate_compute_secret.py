"""`leruli group rotate-compute-secret`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command, confirm
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output


@click.command("rotate-compute-secret")
@click.option("--yes", is_flag=True, help="Do not ask.")
@client_command(
    interrupted="Run the command again: the secret that it prints is the one that counts."
)
def command(out: Output, yes: bool) -> None:
    """Make the first or a new compute secret and print it, this once. Needs an admin's secret.

    With this secret a machine becomes a node of your group. The old secret is invalid at once.
    Nodes that joined with it start no further job. Their running jobs continue, and the results are
    uploaded. Jobs that were waiting for them go to nodes with the new secret. Only the secret goes
    to standard output.
    """
    confirm(
        "If your group has a compute secret, it is invalid at once: its nodes start no further job "
        "until each was started again with the new secret. Their running jobs continue. Make a new "
        "secret?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        secret = group.rotate_compute_secret()
    out.secret(
        "secret",
        secret,
        {},
        "This is the compute secret of your group. It is shown only now. On every node put it "
        "into node.env, then start the node again:\n    LERULI_COMPUTE_SECRET=<the secret>",
    )
