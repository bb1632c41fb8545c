"""``leruli-queue group-create``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from leruli_queue.commands._database import with_database
from leruli_queue.groups.create import create_group


@click.command("group-create")
@click.argument("name")
@click.option("--admin", "admin_name", default="admin", show_default=True, help="The admin's name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, admin_name: str, *, as_json: bool) -> None:
    """Make a group NAME with its first admin.

    Prints the admin's API secret and the group token. The database holds only their hashes, so
    they are shown this once.
    """
    group = with_database(lambda connection: create_group(connection, name, admin_name))
    if as_json:
        click.echo(json.dumps(asdict(group)))
        return
    click.echo(
        f"Group {group.name} was made. These are shown this once; store them now.\n"
        f"\n"
        f"  API secret of {group.admin_name} (admin)  {group.admin_secret}\n"
        f"  group token  {group.group_token}\n"
        f"\n"
        f"Next, as that admin: set the compute secret with group-rotate-compute-secret. Then put\n"
        f"it and the group token into node.env of each machine. docs/admins/api.md has the calls."
    )
