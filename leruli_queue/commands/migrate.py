"""``leruli-queue migrate``."""

from __future__ import annotations

import asyncio

import click

from leruli_queue.settings import load_settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import connect


@click.command("migrate")
def command() -> None:
    """Bring the database's schema up to date.

    `serve` and `dispatch` do it by themselves when they start; this is for those who like to do
    it beforehand.
    """
    applied = asyncio.run(_migrate())
    click.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")


async def _migrate() -> list[str]:
    connection = await connect(load_settings())
    try:
        return await migrate(connection)
    finally:
        await connection.close()
