"""Failures of PostgreSQL itself: the answer is "try again", and not "internal error"."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from service_world import (
    GroupOfTest,
    PostgresOfTest,
    holding,
    make_group,
    running_service,
)

from leruli_queue.settings import Settings
from leruli_queue.store.migrate import Migration, migrate
from leruli_queue.store.pool import Pool, open_pool


async def submit(service: httpx.AsyncClient, group: GroupOfTest) -> httpx.Response:
    job = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    return await service.post("/v22_1/bulk/task-submit", json=[job])


def says_to_come_again(answer: httpx.Response) -> bool:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"] == "2"
    return "database" in answer.json()["detail"]


async def test_a_statement_that_the_server_ends(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    """The server has a time limit for statements, and is slow."""
    await alter_database(pool, "statement_timeout = '300ms'")
    async with running_service(settings) as service:
        async with holding(settings, "LOCK jobs"):
            assert says_to_come_again(await submit(service, group))
        assert (await submit(service, group)).status_code == 200


async def test_a_lock_timeout_of_the_server(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    await alter_database(pool, "lock_timeout = '300ms'")
    async with running_service(settings) as service, holding(settings, "LOCK jobs"):
        assert says_to_come_again(await submit(service, group))


async def test_a_migration_is_not_ended_by_the_servers_time_limit(
    empty_database_url: str,
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("SET statement_timeout = '300ms'")
    slow = Migration(1, "0001_slow", "SELECT pg_sleep(0.6)")
    assert await migrate(connection, [slow]) == ["0001_slow"]
    # For the migration alone.
    assert await connection.fetchval("SHOW statement_timeout") == "300ms"
    await connection.close()


async def test_a_read_only_server(own_postgres: PostgresOfTest, settings: Settings) -> None:
    """As after a failover to a replica, or where a provider's disk is full."""
    settings = settings.model_copy(update={"database_url": SecretStr(own_postgres.url)})
    async with running_service(settings) as service, open_pool(settings) as pool:
        group = await make_group(pool, "chemists")
        await own_postgres.alter("SET default_transaction_read_only = on")
        assert says_to_come_again(await submit(service, group))
        await own_postgres.alter("RESET default_transaction_read_only")
        assert (await submit(service, group)).status_code == 200


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("53000", id="insufficient_resources"),
        pytest.param("53100", id="disk_full"),
        pytest.param("53200", id="out_of_memory"),
        pytest.param("53400", id="configuration_limit_exceeded"),
        pytest.param("57000", id="operator_intervention"),
        pytest.param("57P05", id="idle_session_timeout"),
        pytest.param("25P03", id="idle_in_transaction_session_timeout"),
        pytest.param("25P04", id="transaction_timeout"),
        pytest.param("58030", id="io_error"),
    ],
)
async def test_errors_about_the_server_itself(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, code: str
) -> None:
    """A trigger raises the error that a full disk, full memory or an operator would cause."""
    await pool.execute(
        "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{code}'; END $$"
    )
    await pool.execute("CREATE TRIGGER trouble BEFORE INSERT ON jobs EXECUTE FUNCTION trouble()")
    assert says_to_come_again(await submit(service, group))
    await pool.execute("DROP TRIGGER trouble ON jobs")
    assert (await submit(service, group)).status_code == 200


async def test_a_defect_is_still_reported_as_one(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await pool.execute("ALTER TABLE jobs RENAME COLUMN priority TO other")
    answer = await submit(service, group)
    assert answer.status_code == 500
    assert "defect" in answer.json()["detail"]


async def alter_database(pool: Pool, setting: str) -> None:
    """Change a setting for future connections."""
    name = await pool.fetchval("SELECT current_database()")
    await pool.execute(f"ALTER DATABASE {name} SET {setting}")
