"""`leruli group create-user`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output


@click.command("create-user")
@click.option("--admin", is_flag=True, help="Make an admin, with the same rights as yours.")
@click.argument("name")
@client_command(interrupted="`leruli group users` shows whether the user was made.")
def command(out: Output, admin: bool, name: str) -> None:
    """Make a user of your group and print the API secret, this once. Needs the secret of an admin.

    Only the secret goes to standard output: secret=$(leruli group create-user --quiet NAME)
    """
    admin_secret = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(admin_secret, out.note) as group:
        secret = group.create_user(name, admin=admin)
    out.secret(
        "secret",
        secret,
        {"name": name, "role": "admin" if admin else "user"},
        f"This is the API secret of {name}. It is shown only now. Hand it over by a channel that "
        f"nobody else reads. {name} puts these lines into ~/.bashrc; the keys are your group's:\n"
        + "\n".join(f"    export {line}" for line in _lines(admin_secret.base_url)),
    )


def _lines(base_url: str) -> list[str]:
    """Return the settings of a new user, as far as this admin knows them, without secrets."""
    values = {
        "LERULI_BASEURL": base_url,
        "LERULI_API_SECRET": "<the secret>",
        "LERULI_S3_SERVER": settings.storage_address() or "<your S3 server>",
        "LERULI_S3_ACCESS": "<your S3 access key>",
        "LERULI_S3_SECRET": "<your S3 secret key>",
    }
    region = settings.storage_region()
    if region:
        values["LERULI_S3_REGION"] = region
    if settings.allows_plain_http():
        values["LERULI_ALLOW_PLAIN_HTTP"] = "1"
    return [f"{name}={value}" for name, value in values.items()]
