"""`leruli group revoke-user`."""

from __future__ import annotations

import click

from leruli.commands._common import confirm, verb
from leruli.commands.group._secrets import admin_settings
from leruli.output import Output


@click.command("revoke-user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--key-id", help="In place of NAME: of a secret that was found somewhere.")
@click.argument("name", required=False)
@verb(interrupted="Look with `leruli group users --revoked` whether the user was revoked.")
def command(out: Output, yes: bool, key_id: str | None, name: str | None) -> None:
    """End the secret of a user of your group, at once. Needs the secret of an admin.

    Jobs of the user go on and stay, and admins have access to them. It cannot be undone; the name
    can be given again, to a new user with a new secret. The last admin cannot be revoked.
    """
    if (name is None) == (key_id is None):
        raise click.UsageError("Give the NAME of a user, or the --key-id of a secret.")
    who = name if key_id is None else f"the user with the key id {key_id}"
    confirm(
        f"The secret of {who} ends at once and for good. Jobs of {who} go on and stay. Revoke?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        revoked, when = group.revoke_user(name, keyid=key_id)
    out.done(f"Revoked {revoked}.", {"name": revoked, "revokedat": when})
