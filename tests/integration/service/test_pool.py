"""Connections that are returned to the pool."""

from __future__ import annotations

import asyncpg

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool, open_pool


async def test_returning_a_connection_runs_no_statement(pool: Pool, settings: Settings) -> None:
    async with pool.acquire() as connection:
        process = connection.get_server_pid()
        await connection.fetchval("SELECT 4711")
    other = await asyncpg.connect(settings.database_url.get_secret_value())
    asked = "SELECT query FROM pg_stat_activity WHERE pid = $1"
    assert await other.fetchval(asked, process) == "SELECT 4711"
    await other.close()


async def test_an_open_transaction_ends_when_its_connection_is_returned(
    settings: Settings,
) -> None:
    one = Settings(**(settings.model_dump() | {"database_pool_size": 2}))
    async with open_pool(one) as pool:
        connection = await pool.acquire()
        await connection.execute("CREATE TABLE made (a int)")
        await connection.transaction().start()
        await connection.execute("INSERT INTO made VALUES (1)")
        await pool.release(connection)
        assert await pool.fetchval("SELECT count(*) FROM made") == 0
        async with pool.acquire() as again:
            assert not again.is_in_transaction()
