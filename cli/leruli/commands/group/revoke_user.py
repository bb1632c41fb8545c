"""`leruli group revoke-user`."""

from __future__ import annotations

import click

from leruli.commands._common import confirm, verb
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output


@click.command("revoke-user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("name")
@verb(interrupted="Look with `leruli group users --revoked` whether the user was revoked.")
def command(out: Output, yes: bool, name: str) -> None:
    """End the secret of a user of your group, at once. Needs the secret of an admin.

    Jobs of the user go on and stay, and admins have access to them. It cannot be undone; the name
    can be given again, to a new user with a new secret. The last admin cannot be revoked.
    """
    confirm(
        f"The secret of {name} ends at once and for good. Jobs of {name} go on and stay. Revoke?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        when = group.revoke_user(name)
    out.result(f"Revoked {name}.", {"name": name, "revokedat": when})
