"""``leruli-queue migrate``."""

from __future__ import annotations

import asyncio

import click

from leruli_queue.logs import set_up_logs
from leruli_queue.settings import Settings, load_settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import connect


@click.command("migrate")
def command() -> None:
    """Bring the database's schema up to date.

    `serve` and `dispatch` do it when they start. Use this command to do it beforehand. It logs each
    step when it is done.
    """
    settings = load_settings()
    set_up_logs(settings)
    asyncio.run(_migrate(settings))
    click.echo("the schema is up to date")


async def _migrate(settings: Settings) -> None:
    connection = await connect(settings)
    try:
        await migrate(connection)
    finally:
        await connection.close()
