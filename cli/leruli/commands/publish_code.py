"""`leruli publish-code`, also known as `task-publish-code`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import verb
from leruli.output import Output
from leruli.progress import progress


@click.command("publish-code")
@click.argument("code")
@click.argument("version")
@verb(interrupted="Nothing was published. Run the command again to start over.")
def command(out: Output, code: str, version: str) -> None:
    """Publish the image CODE:VERSION of this machine's Docker for your group.

    It can be used as soon as the upload is complete, and replaces one of the same name.
    """
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.api import Service
    from leruli.images import ImageTokens, find_code, local_image_size, publish_code
    from leruli.storage import Store

    size = local_image_size(code, version)
    with Service(service_settings, out.note) as service:
        tokens = ImageTokens(service)
        store = Store(storage_settings)
        replaced = find_code(store, tokens, code, version)
    with progress(f"Publishing {code}:{version}", size, visible=out.shows_progress) as advance:
        publish_code(store, tokens, code, version, advance)
    text = f"Published {code}:{version}"
    if replaced is not None:
        since = (
            f" of {replaced.published.astimezone():%Y-%m-%d %H:%M}" if replaced.published else ""
        )
        text += f"; it replaces the one{since}. Jobs that start from now on run the new one"
    out.result(f"{text}.", {"code": code, "version": version, "replaced": replaced is not None})
