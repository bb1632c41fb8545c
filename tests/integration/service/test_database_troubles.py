"""Troubles of PostgreSQL's own: whoever called is told to come again, not of a defect."""

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


async def test_a_statement_that_the_server_cuts_off(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    """Whoever runs PostgreSQL set a time limit, and it is slow."""
    await alter_database(pool, "statement_timeout = '300ms'")
    async with running_service(settings) as service:
        async with holding(settings, "LOCK jobs"):
            assert says_to_come_again(await submit(service, group))
        assert (await submit(service, group)).status_code == 200


async def test_a_lock_that_the_server_does_not_wait_for(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    await alter_database(pool, "lock_timeout = '300ms'")
    async with running_service(settings) as service, holding(settings, "LOCK jobs"):
        assert says_to_come_again(await submit(service, group))


async def test_a_migration_takes_its_time_whatever_the_server_cuts_off(
    empty_database_url: str,
) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("SET statement_timeout = '300ms'")
    slow = Migration(1, "0001_slow", "SELECT pg_sleep(0.6)")
    assert await migrate(connection, [slow]) == ["0001_slow"]
    # For the migration only.
    assert await connection.fetchval("SHOW statement_timeout") == "300ms"
    await connection.close()


async def test_a_server_that_takes_no_changes(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    """As after a failover to a copy, or where a provider's disk is full."""
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
async def test_what_the_server_says_of_itself(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool, code: str
) -> None:
    """A trigger says it for a server whose disk, memory or operator would."""
    await pool.execute(
        "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{code}'; END $$"
    )
    await pool.execute("CREATE TRIGGER trouble BEFORE INSERT ON jobs EXECUTE FUNCTION trouble()")
    assert says_to_come_again(await submit(service, group))
    await pool.execute("DROP TRIGGER trouble ON jobs")
    assert (await submit(service, group)).status_code == 200


async def test_a_defect_is_still_called_one(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await pool.execute("ALTER TABLE jobs RENAME COLUMN priority TO other")
    answer = await submit(service, group)
    assert answer.status_code == 500
    assert "defect" in answer.json()["detail"]


async def alter_database(pool: Pool, setting: str) -> None:
    """Set it for connections that are made from now on."""
    name = await pool.fetchval("SELECT current_database()")
    await pool.execute(f"ALTER DATABASE {name} SET {setting}")
