"""``leruli-queue group-disable``."""

from __future__ import annotations

import click

from leruli_queue.commands._database import with_database
from leruli_queue.groups.disabling import disable_group


@click.command("group-disable")
@click.argument("name")
def command(name: str) -> None:
    """Disable the group NAME: none of its secrets is accepted any more.

    Running jobs may end and upload; queued jobs stay queued. Nothing is deleted;
    `leruli-queue group-enable` undoes it.
    """
    changed = with_database(lambda connection: disable_group(connection, name))
    click.echo(f"Group {name} {'is disabled' if changed else 'was disabled before'}.")
