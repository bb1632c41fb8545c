"""A read-only database, as a replica is before its promotion: the processes wait for it."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import httpx
import pytest
from nomad_world import NomadOfTest
from process_world import running
from pydantic import SecretStr
from service_world import (
    GroupOfTest,
    PostgresOfTest,
    leruli_queue,
    make_group,
    running_service,
)

from leruli_queue.settings import Settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import connect, open_pool

READ_ONLY = "SET default_transaction_read_only = on"
WRITABLE = "RESET default_transaction_read_only"


@pytest.fixture
def settings(settings: Settings, own_postgres: PostgresOfTest) -> Settings:
    """Settings of a service whose PostgreSQL server a test may set to read-only."""
    return settings.model_copy(update={"database_url": SecretStr(own_postgres.url)})


async def migrated(settings: Settings) -> None:
    connection = await connect(settings)
    await migrate(connection)
    await connection.close()


async def submit(service: httpx.AsyncClient, group: GroupOfTest) -> httpx.Response:
    job = {"secret": group.user_secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    return await service.post("/v22_1/task-submit", json=job)


async def test_a_service_starts_and_asks_to_retry(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    await migrated(settings)
    async with open_pool(settings) as pool:
        group = await make_group(pool, "chemists")
    await own_postgres.alter(READ_ONLY)
    async with running_service(settings) as service:
        assert (await service.get("/livez")).status_code == 200
        ready = await service.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            503,
            {"status": "the database takes no changes"},
        )
        answer = await submit(service, group)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert "database cannot be used for a moment" in answer.json()["detail"]
        await own_postgres.alter(WRITABLE)
        # Each session of PostgreSQL reads the setting when it hears of it.
        async with asyncio.timeout(10):
            while (answer := await submit(service, group)).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert answer.status_code == 200
        assert (await service.get("/readyz")).status_code == 200


async def test_an_old_schema_is_migrated_once_the_database_is_writable(
    own_postgres: PostgresOfTest, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await own_postgres.alter(READ_ONLY)

    async def let_it_write() -> None:
        while "ReadOnlySQLTransactionError" not in capsys.readouterr().err:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await own_postgres.alter(WRITABLE)

    async with asyncio.timeout(60):
        writing = asyncio.create_task(let_it_write())
        async with running_service(settings) as service:
            assert (await service.get("/readyz")).status_code == 200
        await writing


async def test_a_dispatcher_waits_and_competes_again(
    own_postgres: PostgresOfTest, settings: Settings, nomad: NomadOfTest
) -> None:
    await migrated(settings)
    await own_postgres.alter(READ_ONLY)
    ours = nomad.settings(settings)
    async with asyncio.timeout(60), running("dispatch", ours) as process:
        for times in (1, 2):
            await process.until_said("the database takes no changes", times=times)
            await until_locks(own_postgres, 0)
            await own_postgres.alter(WRITABLE)
            await process.until_said("this dispatcher is active", times=times)
            await until_locks(own_postgres, 1)
            # As if another server was promoted and the address now leads there.
            await own_postgres.alter(READ_ONLY)
        assert "Traceback" not in "".join(process.said)


@pytest.mark.parametrize("command", [("migrate",), ("group-create", "chemists")])
async def test_a_command_reports_it_and_does_nothing(
    own_postgres: PostgresOfTest, command: tuple[str, ...]
) -> None:
    await own_postgres.alter(READ_ONLY)
    done = await leruli_queue(*command, database=own_postgres.url)
    assert done.returncode == 1
    assert done.stderr.startswith("leruli-queue: PostgreSQL takes no changes (")
    assert "Try again when it takes changes, or check LERULI_QUEUE_DATABASE_URL." in done.stderr
    assert "Traceback" not in done.stderr


async def until_locks(server: PostgresOfTest, count: int) -> None:
    """Wait until this number of dispatchers holds the lock."""
    connection = await asyncpg.connect(server.url)
    held = (
        "SELECT count(*) FROM pg_locks "
        "WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
    )
    while await connection.fetchval(held) != count:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)
    await connection.close()
