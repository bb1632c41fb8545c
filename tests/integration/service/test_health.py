from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from log_world import captured_log
from pydantic import SecretStr
from service_world import (
    GroupOfTest,
    PostgresOfTest,
    call,
    make_group,
    running_service,
    until_blocked,
)

from leruli_queue.access import sealing
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.errors import SetupError
from leruli_queue.settings import Settings
from leruli_queue.store import migrate as migrate_module
from leruli_queue.store.migrate import Migration, known_migrations, migrate
from leruli_queue.store.pool import Pool, connect, open_pool


async def test_ready_while_the_database_is_there(service: httpx.AsyncClient) -> None:
    assert (await service.get("/livez")).status_code == 200
    assert (await service.get("/readyz")).json() == {"status": "ready"}


async def test_the_metrics_show_the_dispatcher(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """D3: it was invisible from outside that no dispatcher ran."""

    async def metric(name: str) -> float:
        text = (await service.get("/metrics")).text
        [value] = re.findall(rf"^leruli_queue_{name} (\S+)$", text, re.MULTILINE)
        return float(value)

    await pool.execute("UPDATE dispatchers SET seen_at = now() - interval '1 min'")
    assert 60 <= await metric("dispatcher_silence_seconds") < 120
    assert await metric("nomad_away_seconds") == 0
    await pool.execute("UPDATE dispatchers SET nomad_away_since = now() - interval '5 min'")
    assert 300 <= await metric("nomad_away_seconds") < 400
    await pool.execute("DELETE FROM dispatchers")
    assert math.isnan(await metric("dispatcher_silence_seconds"))


async def test_without_the_database_requests_must_be_repeated(
    own_postgres: PostgresOfTest, settings: Settings
) -> None:
    settings = settings.model_copy(update={"database_url": SecretStr(own_postgres.url)})
    async with running_service(settings) as service, open_pool(settings) as pool:
        group = await make_group(pool, "chemists")
        own_postgres.part.stop()
        assert (await service.get("/livez")).status_code == 200
        assert (await service.get("/readyz")).status_code == 503
        answer = await service.post("/v22_1/group-token", json={"secret": group.user_secret})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        await asyncio.to_thread(own_postgres.start)
        answer = await service.post("/v22_1/group-token", json={"secret": group.user_secret})
        assert answer.json() == group.token


async def test_migrations_run_once_however_many_start(empty_database_url: str) -> None:
    connections = [await asyncpg.connect(empty_database_url) for _ in range(8)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    assert sorted(len(names) for names in applied) == [0] * 7 + [len(known_migrations())]
    for connection in connections:
        await connection.close()


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    broken = Migration(1, "0001_broken", "CREATE TABLE half (id int); SELECT 1/0;")
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, [broken])
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await migrate(connection) == [m.name for m in known_migrations()]
    await connection.close()


async def test_a_migration_may_take_longer_than_a_statement(empty_database_url: str) -> None:
    hasty = Settings(database_url=empty_database_url, database_timeout_s=0.5)
    slow = Migration(1, "0001_slow", "SELECT pg_sleep(1.5)")
    connections = [await connect(hasty) for _ in range(2)]
    applied = await asyncio.gather(*(migrate(connection, [slow]) for connection in connections))
    assert sorted(applied) == [[], ["0001_slow"]]
    for connection in connections:
        await connection.close()


async def test_a_migration_does_not_deadlock_with_copies_that_submit(
    empty_database_url: str,
) -> None:
    """A submit locks jobs, then reads users and groups. No migration locks these before jobs."""
    migrating, submitting = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    await migrate(migrating, known_migrations()[:1])
    async with open_pool(Settings(database_url=empty_database_url)) as pool:
        async with submitting.transaction():
            await submitting.execute("LOCK jobs IN ROW EXCLUSIVE MODE")
            migration = asyncio.create_task(migrate(migrating))
            await until_blocked(pool, 1)
            await submitting.execute(
                "SELECT FROM users u JOIN groups g ON g.id = u.group_id FOR KEY SHARE"
            )
        await migration
    for connection in (migrating, submitting):
        await connection.close()


async def test_a_migration_that_waits_for_a_backup_holds_up_no_request(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M14: all requests waited behind an ALTER TABLE, which waited for the whole pg_dump."""
    logged = captured_log(monkeypatch, migrate_module)
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUT_S", 0.3)
    monkeypatch.setattr(migrate_module, "_BACKOFF_S", (0.5,))
    migrating, dumping = [await asyncpg.connect(empty_database_url) for _ in range(2)]
    await migrate(migrating, known_migrations()[:1])
    await dumping.execute("SET application_name = 'pg_dump'")
    alter = Migration(9999, "9999_alter", "ALTER TABLE jobs ADD COLUMN more int")
    wanted = [*known_migrations()[:1], alter]
    async with open_pool(Settings(database_url=empty_database_url)) as pool:
        async with dumping.transaction():
            await dumping.execute("LOCK jobs IN ACCESS SHARE MODE")
            migration = asyncio.create_task(migrate(migrating, wanted))
            await until_blocked(pool, 1)
            # As a submit does, which waits behind it.
            await pool.fetch("SELECT FROM jobs", timeout=5)
            while not any("blocked_by" in line for line in logged):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert not migration.done()
        assert await migration == ["9999_alter"]
    logged_line = next(line for line in logged if "blocked_by" in line)
    assert logged_line["migration"] == "9999_alter"
    [holder] = logged_line["blocked_by"]
    assert (holder["application"], holder["state"]) == ("pg_dump", "idle in transaction")
    for connection in (migrating, dumping):
        await connection.close()


async def test_rows_of_an_earlier_release_stay_valid(
    empty_database_url: str, settings: Settings
) -> None:
    """Secrets, nodes and attempts written by the release before migration 14 stay valid."""
    token, admin, user, compute, node = (
        make(kind)
        for kind in (
            SecretType.GROUP,
            SecretType.API,
            SecretType.API,
            SecretType.COMPUTE,
            SecretType.NODE,
        )
    )
    old = [migration for migration in known_migrations() if migration.number < 14]
    node_id, waiting, running = UUID(int=1), UUID(int=2), UUID(int=3)
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, old)
    await connection.execute(
        "INSERT INTO groups (name, token_key_id, token_hash, compute_key_id, compute_hash,"
        " compute_epoch) VALUES ('chemists', $1, $2, $3, $4, 1)",
        token.key_id,
        token.hash,
        compute.key_id,
        compute.hash,
    )
    for name, role, secret in (("admin", "admin", admin), ("ada", "user", user)):
        await connection.execute(
            "INSERT INTO users (group_id, name, role, key_id, secret_hash, group_token_sealed)"
            " VALUES (1, $1, $2, $3, $4, $5)",
            name,
            role,
            secret.key_id,
            secret.hash,
            sealing.seal_under(secret, token.text),
        )
    await connection.execute(
        "INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,"
        " agent_version) VALUES ($1, 1, 'node', $2, $3, 1, 4, 8000, '1')",
        node_id,
        node.key_id,
        node.hash,
    )
    for job_id, started in ((waiting, False), (running, True)):
        await connection.execute(
            "INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores,"
            " memory_mb, time_limit_s, state, attempt, started_at, node_id)"
            " SELECT $1, 1, 2, 'bucket-' || $1::uuid, 'default', 'psi4', '1.5', 1,"
            " 4000, 60, 'submitted', 1, CASE WHEN $3 THEN now() END,"
            " CASE WHEN $3 THEN $2::uuid END",
            job_id,
            node_id,
            started,
        )
        await connection.execute(
            "INSERT INTO attempts (job_id, number, node_set, nomad_job_id, started_at, node_id)"
            " SELECT id, 1, 'set', 'child-' || id, started_at, node_id FROM jobs WHERE id = $1",
            job_id,
        )
    await migrate(connection)
    await connection.close()
    upgraded = settings.model_copy(update={"database_url": SecretStr(empty_database_url)})
    async with running_service(upgraded) as service:
        for secret in (user, admin):
            assert await call(service, "group-token", secret=secret.text) == token.text
        again = await call(
            service,
            "task-submit",
            secret=user.text,
            bucketid=f"bucket-{waiting}",
            codeversion="psi4:1.5",
            cores=1,
            memorymb=4000,
            timelimit=60,
        )
        assert again == str(waiting)
        starting = {"nodetoken": node.text, "jobid": str(waiting), "attempt": 1}
        await call(service, "attempt-start", **starting, startkey="start-key-2")
        for job_id in (waiting, running):
            ending = {"nodetoken": node.text, "jobid": str(job_id), "attempt": 1}
            await call(service, "attempt-upload", **ending)
            await call(service, "attempt-end", **ending, outcome="ended", exitcode=0)
            status = await call(service, "task-status", secret=user.text, jobid=str(job_id))
            assert status["status"] == "completed"
        new = await call(service, "group-rotate-token", adminsecret=admin.text)
        assert await call(service, "group-token", secret=user.text) == new
        nodes = await call(service, "group-nodes", grouptoken=new)
        assert [each["knowsimages"] for each in nodes["nodes"]] == [False]


async def test_a_changed_or_unknown_history_is_refused(empty_database_url: str) -> None:
    first = Migration(1, "0001_a", "CREATE TABLE a ()")
    connection = await asyncpg.connect(empty_database_url)
    await migrate(connection, [first, Migration(2, "0002_b", "CREATE TABLE b ()")])
    with pytest.raises(SetupError, match="newer version"):
        await migrate(connection, [first])
    with pytest.raises(SetupError, match="0001_a differs"):
        await migrate(connection, [Migration(1, "0001_a", "CREATE TABLE changed ()")])
    await connection.close()


async def test_the_package_for_nodes_is_served_if_there_is_one(
    settings: Settings, tmp_path: Path
) -> None:
    package = tmp_path / "built.tar"
    async with running_service(settings.model_copy(update={"node_package": package})) as service:
        missing = await service.get("/nomadrun.tar")
        assert missing.status_code == 404
        assert "Ask the operator of the service" in missing.json()["detail"]
        package.write_bytes(b"a tar")
        answer = await service.get("/nomadrun.tar")
        assert answer.content == b"a tar"
        assert answer.headers["content-type"] == "application/x-tar"
        assert 'filename="nomadrun.tar"' in answer.headers["content-disposition"]
