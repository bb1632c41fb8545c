"""`leruli list-codes`, also known as `task-list-codes`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command
from leruli.terminal.output import Output


@click.command("list-codes")
@client_command(interrupted="Nothing was changed.")
def command(out: Output) -> None:
    """List the images that your group can run, as code:version."""
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.images.published import ImageTokens, list_codes
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    with QueueClient(service_settings, out.note) as service:
        codes = list_codes(Store(storage_settings), ImageTokens(service))
    if not codes:
        out.note("Your group has published no image yet. `leruli publish-code` does that.")
    out.result(
        "\n".join(f"{one.code}:{one.version}" for one in codes),
        [
            {
                "code": one.code,
                "version": one.version,
                "bytes": one.size,
                "published": one.published.isoformat() if one.published else None,
            }
            for one in codes
        ],
    )
