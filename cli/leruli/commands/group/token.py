"""`leruli group token`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command
from leruli.terminal.output import Output


@click.command("token")
@client_command(interrupted="Nothing was changed.")
def command(out: Output) -> None:
    """Print the token of your group, which reads its activity and can change nothing."""
    service_settings = settings.service_settings()

    from leruli.service.queue_client import QueueClient

    with QueueClient(service_settings, out.note) as service:
        token = service.group_token()
    out.secret(
        "grouptoken",
        token,
        {},
        "This is the token of your group. It shows who computes what in your group, and it can "
        "change nothing. Nodes need it in node.env; `leruli group activity` and `usage` take it "
        "from:\n    export LERULI_GROUP_TOKEN=<the token>",
    )
