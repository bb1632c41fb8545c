"""`serve` as a process, while PostgreSQL is down, hangs, or has another version's schema."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
from process_world import running, serving
from pydantic import SecretStr
from service_world import PostgresOfTest

from leruli_queue.settings import Settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import connect


@pytest.fixture
def settings(settings: Settings, own_postgres: PostgresOfTest) -> Settings:
    """Settings of a service whose PostgreSQL a test may stop."""
    return settings.model_copy(update={"database_url": SecretStr(own_postgres.url)})


async def test_it_answers_and_can_be_stopped_while_it_waits_for_its_database(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    """D6: it did not listen meanwhile, and only kill -9 stopped it."""
    own_postgres.part.stop()
    async with serving(settings) as serve:
        assert (await serve.client.get("/livez")).status_code == 200
        ready = await serve.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (
            503,
            {"status": "starting: the database is away"},
        )
        answer = await serve.client.post("/v22_1/group-token", json={"secret": "x"})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "2"
        assert "is starting" in answer.json()["detail"]
        await serve.end(within_s=5)


async def test_it_serves_once_the_database_is_up(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    """D6: the wait in the background ends when the database is up."""
    own_postgres.part.stop()
    async with serving(settings) as serve:
        assert (await serve.client.get("/readyz")).status_code == 503
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(20):
            await serve.until_ready()
        answer = await serve.client.post("/v22_1/group-token", json={"secret": "x"})
        assert answer.status_code == 403
        await serve.end(within_s=5)


async def test_readyz_answers_at_once_whatever_the_database_does(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    """D9: with a hanging PostgreSQL it did not answer for 17.9 s. HEAD got 405."""
    async with serving(settings) as serve, asyncio.timeout(120):
        await serve.until_ready()
        assert (await serve.client.head("/livez")).status_code == 200
        assert (await serve.client.head("/readyz")).status_code == 200
        with own_postgres.standing_still():
            for _ in range(2):
                began = time.monotonic()
                answers = await asyncio.gather(*(serve.client.get("/readyz") for _ in range(5)))
                assert time.monotonic() - began < 2
                assert {answer.status_code for answer in answers} == {503}
                assert answers[0].json() == {"status": "the database does not answer"}
            assert (await serve.client.head("/readyz")).status_code == 503
            assert (await serve.client.get("/livez")).status_code == 200
        await serve.until_ready()


async def test_it_ends_while_the_database_hangs(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    """D6: also while a request waits for the database."""
    async with serving(settings) as serve, asyncio.timeout(120):
        await serve.until_ready()
        with own_postgres.standing_still():
            call = asyncio.create_task(
                serve.client.post("/v22_1/group-token", json={"secret": "x"})
            )
            await asyncio.sleep(0.2)
            await serve.end(within_s=20)
            await asyncio.gather(call, return_exceptions=True)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_newer_versions_schema_is_reported_in_a_sentence(
    settings: Settings, workers: int
) -> None:
    """D19: it printed a traceback."""
    connection = await connect(settings)
    await migrate(connection)
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_later', 'digest')")
    await connection.close()
    several = settings.model_copy(update={"listen_workers": workers, "listen_port": 18022})
    async with running("serve", several) as process, asyncio.timeout(30):
        code = await process.process.wait()
    said = "".join(process.said)
    assert "it was used by a newer version of Leruli Queue" in said
    assert "Traceback" not in said
    # With several workers, uvicorn's parent process has no exit code of its own.
    assert code == (3 if workers == 1 else 0)


async def test_a_database_that_refuses_it_later_ends_it(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    """D6: a wrong password shows only when PostgreSQL is up, and waiting does not correct it."""
    url = settings.database_url.get_secret_value()
    connection = await asyncpg.connect(url)
    await connection.execute("DROP DATABASE IF EXISTS elsewhere")
    await connection.close()
    own_postgres.part.stop()
    wrong = settings.model_copy(
        update={"database_url": SecretStr(url.replace("/postgres?", "/elsewhere?"))}
    )
    async with serving(wrong) as serve, asyncio.timeout(120):
        await asyncio.to_thread(own_postgres.start)
        assert await serve.process.wait() == 3
    assert "it has no database of this name" in "".join(serve.said)
