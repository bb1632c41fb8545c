"""`leruli list-codes`, also known as `task-list-codes`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import verb
from leruli.output import Output


@click.command("list-codes")
@verb(interrupted="Nothing was changed.")
def command(out: Output) -> None:
    """List the images that your group can run, as code:version."""
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.api import Service
    from leruli.images import ImageTokens, list_codes
    from leruli.storage import Store

    with Service(service_settings, out.note) as service:
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
