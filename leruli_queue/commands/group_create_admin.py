"""``leruli-queue group-create-admin``."""

from __future__ import annotations

import click

from leruli_queue.commands._database import with_database
from leruli_queue.groups.recover_admin import create_admin


@click.command("group-create-admin")
@click.argument("group")
@click.argument("name")
def command(group: str, name: str) -> None:
    """Make an admin NAME in GROUP, for a group whose admins have all lost their secrets.

    Asks for the group token, or reads it from standard input if that is not a terminal. The
    database does not hold the token, and the new admin needs it; any user of the group has it.
    Prints the admin's API secret, shown this once.
    """
    token = click.prompt("Group token", hide_input=True, err=True).strip()
    secret = with_database(lambda connection: create_admin(connection, group, token, name))
    click.echo(
        f"Admin {name} of group {group} was made. The API secret, shown this once:", err=True
    )
    click.echo(secret)
