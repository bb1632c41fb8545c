"""`leruli unpublish-code`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command, confirm
from leruli.commands._image_argument import named_image, required_image
from leruli.terminal.output import Output


@click.command("unpublish-code")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("code")
@click.argument("version", metavar="VERSION", required=False)
@client_command(interrupted="`leruli list-codes` shows whether the image is still there.")
def command(out: Output, yes: bool, code: str, version: str | None) -> None:
    """Delete a published image of your group, for good.

    Jobs that wait for the image fail, and so do jobs that are submitted with it later. Only a
    machine that still has the image from an earlier job can run them. Running jobs continue.
    """
    name, tag, _ = named_image(code, version)
    code, version = required_image(name, tag)
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()

    from leruli.images.published import ImageTokens, find_code, unpublish_code
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    with QueueClient(service_settings, out.note) as service:
        store, tokens = Store(storage_settings), ImageTokens(service)
        if find_code(store, tokens, code, version) is not None:
            confirm(
                f"The image {code}:{version} is deleted for the whole group. Jobs that wait for it "
                "fail. Continue?",
                yes=yes,
            )
        unpublish_code(store, tokens, code, version)
    out.done(f"Unpublished {code}:{version}.", {"code": code, "version": version})
