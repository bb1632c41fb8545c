"""`leruli group revoke-user`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command, confirm
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output


@click.command("revoke-user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--key-id", help="Instead of NAME: the key id of a secret that leaked.")
@click.argument("name", required=False)
@client_command(interrupted="`leruli group users --revoked` shows whether the user was revoked.")
def command(out: Output, yes: bool, key_id: str | None, name: str | None) -> None:
    """End the secret of a user of your group, at once. Needs the secret of an admin.

    Jobs of the user continue, and admins have access to them. A revocation cannot be undone. The
    name can be given to a new user, with a new secret. The last admin cannot be revoked.
    """
    if (name is None) == (key_id is None):
        raise click.UsageError("Give the NAME of a user, or the --key-id of a secret.")
    who = name if key_id is None else f"the user with the key id {key_id}"
    confirm(
        f"The secret of {who} ends at once and for good. Jobs of {who} continue. Revoke?",
        yes=yes,
    )
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as group:
        revoked, when = group.revoke_user(name, keyid=key_id)
    out.done(f"Revoked {revoked}.", {"name": revoked, "revokedat": when})
