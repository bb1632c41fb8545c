"""`leruli group users`."""

from __future__ import annotations

import click

from leruli.commands._common import client_command
from leruli.commands.group._secrets import admin_settings
from leruli.terminal.output import Output
from leruli.terminal.tables import Column

_COLUMNS = (
    Column("name", "name"),
    Column("role", "role"),
    Column("key id", "keyid"),
    Column("created", "createdat", is_time=True),
    Column("last used", "lastusedat", is_time=True),
)
_REVOKED = Column("revoked", "revokedat", is_time=True)


@click.command("users")
@click.option("--revoked", is_flag=True, help="List revoked users too.")
@client_command(interrupted="Nothing was changed.")
def command(out: Output, revoked: bool) -> None:
    """List the users of your group. Needs the secret of an admin.

    The key id is the second part of a user's secret. It is not secret itself. It shows whose secret
    leaked.
    """
    settings = admin_settings()

    from leruli.service.group import GroupAdmin

    with GroupAdmin(settings, out.note) as admin:
        users = admin.users(revoked=revoked)
    out.table("users", (*_COLUMNS, _REVOKED) if revoked else _COLUMNS, users)
