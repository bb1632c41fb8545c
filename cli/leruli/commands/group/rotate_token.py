"""`leruli group rotate-token`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command, confirm
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output


@click.command("rotate-token")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--finish", is_flag=True, help="Delete the old images even if machines still use them."
)
@click.option(
    "--again", is_flag=True, help="Make a new token even if the images were not moved yet."
)
@click.option("--no-images", is_flag=True, help="Do not use the storage. The images stay for now.")
@client_command(interrupted="Run the same command again: it continues from there.")
def command(out: Output, yes: bool, finish: bool, again: bool, no_images: bool) -> None:
    """Make a new token of your group, move its images, and print it. Needs an admin's secret.

    The old token is invalid at once: it reads nothing, and no machine joins with it. The settings
    of the storage are needed too, because the token names the bucket of the images. After an
    interruption, or while machines still use the old bucket, the same command continues with the
    same token.
    """
    confirm(
        "The token of your group becomes invalid: everybody who reads activity with it, and each "
        "machine that is started again, needs the new one. The images are copied to a new bucket "
        "and deleted in the old one. Continue?",
        yes=yes,
    )
    admin = admin_settings()
    storage = None if no_images else settings.storage_settings()

    from leruli.images.rotate import rotate
    from leruli.service.group import GroupAdmin
    from leruli.storage.store import Store

    store = None if storage is None else Store(storage, notice=out.note)
    with GroupAdmin(admin, out.note) as group:
        done = rotate(group, store, again=again, finish=finish, notice=out.note)
    if done.lagging:
        out.note(
            f"The old images stay, because these machines use them: {', '.join(done.lagging)}. "
            "Update their agents, or start them again with the new token; then run this again. "
            "With --finish it deletes the old images all the same."
        )
    elif not done.is_finished:
        out.note("The images stay in the bucket of the old token. Run this again to move them.")
    what = "the new token" if done.is_new else "the token of the last rotation, which was not over"
    out.secret(
        "grouptoken",
        done.token,
        {"new": done.is_new, "finished": done.is_finished, "waitingfor": done.lagging},
        f"This is {what}. Users get it by `leruli group token`. On each node put it into node.env "
        "before its next start; running nodes continue:\n    LERULI_GROUP_TOKEN=<the token>",
    )
