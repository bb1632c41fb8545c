"""`leruli group create-user`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output


@click.command("create-user")
@click.option("--admin", is_flag=True, help="Make an admin: may do all that you may.")
@click.argument("name")
@verb(interrupted="Look with `leruli group users` whether the user was made.")
def command(out: Output, admin: bool, name: str) -> None:
    """Make a user of your group and print the API secret, this once. Needs the secret of an admin.

    Only the secret goes to standard output: secret=$(leruli group create-user --quiet NAME)
    """
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        secret = group.create_user(name, admin=admin)
    out.secret(
        "secret",
        secret,
        {"name": name, "role": "admin" if admin else "user"},
        f"This is the API secret of {name}. It is shown this once: hand it over on a way that "
        f"nobody else reads. {name} puts into ~/.bashrc, besides the three lines of your storage:\n"
        "    export LERULI_API_SECRET=<the secret>",
    )
