"""`leruli publish-code`, also known as `task-publish-code`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command
from leruli.commands._image_argument import named_image, required_image
from leruli.terminal.output import Output
from leruli.terminal.progress import progress


@click.command("publish-code")
@click.option("--replace", is_flag=True, help="Replace the published image of the same name.")
@click.argument("code")
@click.argument("version", metavar="VERSION", required=False)
@client_command(interrupted="Nothing was published. Run the command again to start over.")
def command(out: Output, replace: bool, code: str, version: str | None) -> None:
    """Publish the image CODE:VERSION of this machine's Docker for your group.

    Jobs can use the image as soon as the upload is complete. A published image is replaced only
    with --replace. Jobs that start after that run the new image. An image that no job could run is
    refused: one with the version latest, or one without a shell.
    """
    name, tag, _ = named_image(code, version)
    code, version = required_image(name, tag)
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.images.published import (
        ImageTokens,
        check_publishable,
        check_replacement,
        find_code,
        publish_code,
    )
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    size = check_publishable(code, version)
    with QueueClient(service_settings, out.note) as service:
        tokens = ImageTokens(service)
        store = Store(storage_settings)
        published = find_code(store, tokens, code, version)
    if not replace:
        check_replacement(published, "--replace")
    if published is not None:
        out.note(f"Replacing {published}.")
    with progress(f"Publishing {code}:{version}", size, visible=out.shows_progress) as advance:
        publish_code(store, tokens, code, version, advance)
    text = f"Published {code}:{version}"
    if published is not None:
        text += "; jobs that start from now on run the new one"
    out.done(f"{text}.", {"code": code, "version": version, "replaced": published is not None})
