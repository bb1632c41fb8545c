"""``leruli-queue group-enable``."""

from __future__ import annotations

import click

from leruli_queue.commands._database import with_database
from leruli_queue.groups.disabling import enable_group


@click.command("group-enable")
@click.argument("name")
def command(name: str) -> None:
    """Enable the group NAME again: its secrets are accepted, its jobs are dispatched."""
    changed = with_database(lambda connection: enable_group(connection, name))
    click.echo(f"Group {name} {'is enabled' if changed else 'was not disabled'}.")
