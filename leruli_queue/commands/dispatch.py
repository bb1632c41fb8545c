"""``leruli-queue dispatch``."""

from __future__ import annotations

import asyncio
import signal

import click
import uvloop

from leruli_queue.dispatch.dispatcher import cancel_until_done, dispatch_for_ever
from leruli_queue.logs import set_up_logs
from leruli_queue.settings import Settings, load_settings
from leruli_queue.store.migrate import migrate_when_possible
from leruli_queue.store.pool import open_pool, wait_for_database


@click.command("dispatch")
def command() -> None:
    """Move jobs between PostgreSQL and Nomad.

    One copy is active, the others stand by to take over. A copy can be killed at any time.
    """
    settings = load_settings()
    set_up_logs(settings)
    uvloop.run(_dispatch(settings))


async def _dispatch(settings: Settings) -> None:
    await wait_for_database(settings)
    async with open_pool(settings) as pool:
        await migrate_when_possible(pool)
        work = asyncio.create_task(dispatch_for_ever(settings, pool))
        asked_to_end = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked_to_end.set)
        waiting = asyncio.create_task(asked_to_end.wait())
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await cancel_until_done(work)
        if not work.cancelled():
            work.result()
