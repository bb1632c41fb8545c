"""`leruli group rotate-compute-secret`."""

from __future__ import annotations

import click

from leruli.commands._common import confirm, verb
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output


@click.command("rotate-compute-secret")
@click.option("--yes", is_flag=True, help="Do not ask.")
@verb(interrupted="Run the command again: the secret that it prints is the one that counts.")
def command(out: Output, yes: bool) -> None:
    """Make the first or a new compute secret and print it, this once. Needs an admin's secret.

    With it a machine becomes a node of your group. The old one ends at once: nodes that joined with
    it start no further job. What they run goes on, and its results are uploaded; what waits for
    them is given to nodes with the new secret. Only the secret goes to standard output.
    """
    confirm(
        "If your group has a compute secret, it ends at once: its nodes start no further job until "
        "each was started again with the new secret. What they run goes on to its end. Make a new "
        "secret?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        secret = group.rotate_compute_secret()
    out.secret(
        "secret",
        secret,
        {},
        "This is the compute secret of your group. It is shown this once. On every node put it "
        "into node.env, then start the node again:\n    LERULI_COMPUTE_SECRET=<the secret>",
    )
