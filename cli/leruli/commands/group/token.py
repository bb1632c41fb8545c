"""`leruli group token`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import verb
from leruli.output import Output


@click.command("token")
@verb(interrupted="Nothing was changed.")
def command(out: Output) -> None:
    """Print the token of your group, which reads its activity and can change nothing."""
    service_settings = settings.service_settings()

    from leruli.api import Service

    with Service(service_settings, out.note) as service:
        token = service.group_token()
    out.secret(
        "grouptoken",
        token,
        {},
        "This is the token of your group. Whoever has it can see who computes what in your group, "
        "and nothing else. Nodes need it in node.env; `leruli group activity` and `usage` take it "
        "from:\n    export LERULI_GROUP_TOKEN=<the token>",
    )
