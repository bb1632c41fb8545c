"""A real PostgreSQL for all tests, with one database for each; a real Nomad server on request."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
from dispatch_world import Dispatching, dispatching
from nomad_world import NomadOfTest, running_nomad
from service_world import (
    GroupOfTest,
    PostgresOfTest,
    make_group,
    make_node,
    pretend_a_dispatcher_is_active,
    running_service,
)

from leruli_queue.access.authenticate import Node
from leruli_queue.embedded import postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.programs import Programs, find_programs
from leruli_queue.embedded.state import StackState
from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import Pool, open_pool

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def programs() -> Programs:
    return find_programs()


@pytest.fixture(scope="session")
def folders() -> Iterator[Folders]:
    with tempfile.TemporaryDirectory(prefix="leruli-it-") as folder:
        made = Folders(Path(folder))
        made.make()
        made.tls.renew("global", (), days=1)
        yield made


@contextmanager
def _running_postgres(folders: Folders, programs: Programs) -> Iterator[PostgresOfTest]:
    state = StackState()
    postgres.make_cluster(folders, state, programs)
    part = postgres.postgres_part(folders, programs)
    server = PostgresOfTest(part, postgres.database_url(folders, state))
    try:
        server.start()
        yield server
    finally:
        part.stop()


@pytest.fixture(scope="session")
def server_url(folders: Folders, programs: Programs) -> Iterator[str]:
    with _running_postgres(folders, programs) as server:
        asyncio.run(_make_quick(server.url))
        yield server.url


async def _make_quick(url: str) -> None:
    # Each test makes a database. No test needs it to survive a power cut.
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER SYSTEM SET fsync = off")
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()


@pytest.fixture
def own_postgres(tmp_path: Path, programs: Programs) -> Iterator[PostgresOfTest]:
    """A PostgreSQL of its own for a test that stops it."""
    folders = Folders(tmp_path)
    folders.make()
    with _running_postgres(folders, programs) as server:
        yield server


async def _make_database(server_url: str, template: str) -> str:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await connection.close()
    return server_url.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def empty_database_url(server_url: str) -> str:
    """The test's own database, without any table."""
    return await _make_database(server_url, "template1")


@pytest.fixture(scope="session")
def migrated(server_url: str) -> str:
    """A migrated database. The tests' databases are copies of it."""

    async def make() -> str:
        url = await _make_database(server_url, "template1")
        connection = await asyncpg.connect(url)
        await migrate(connection)
        await pretend_a_dispatcher_is_active(connection)
        name = await connection.fetchval("SELECT current_database()")
        await connection.close()
        return str(name)

    return asyncio.run(make())


@pytest.fixture
async def settings(server_url: str, migrated: str, folders: Folders) -> Settings:
    """Settings of a service with a migrated database."""
    return Settings(
        database_url=await _make_database(server_url, migrated),
        log_format="json",
        # Nothing listens there; a test that needs Nomad uses another fixture.
        nomad_address="https://127.0.0.1:1",
        nomad_ca_file=folders.tls.ca,
        nomad_ca_key_file=folders.tls.ca_key,
        nomad_cert_file=folders.tls.broker,
        nomad_key_file=folders.tls.broker_key,
        feed_interval_s=0.05,
    )


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    async with open_pool(settings) as opened:
        yield opened


@pytest.fixture
async def group(pool: Pool) -> GroupOfTest:
    return await make_group(pool, "chemists")


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with running_service(settings) as client:
        yield client


@pytest.fixture(scope="session")
def nomad(folders: Folders, programs: Programs) -> Iterator[NomadOfTest]:
    with running_nomad(folders, programs) as made:
        yield made


@pytest.fixture
def other_nomad(tmp_path: Path, programs: Programs) -> Iterator[NomadOfTest]:
    """A second Nomad cluster with its own authority and tokens, for one test."""
    folders = Folders(tmp_path / "other-nomad")
    folders.make()
    with running_nomad(folders, programs) as made:
        yield made


@pytest.fixture
def nomad_settings(nomad: NomadOfTest, settings: Settings) -> Settings:
    return nomad.settings(settings)


@pytest.fixture
async def gateway(nomad_settings: Settings) -> AsyncIterator[NomadGateway]:
    made = NomadGateway(read_clusters(nomad_settings)[DEFAULT])
    yield made
    await made.close()


@pytest.fixture
async def dispatcher(
    nomad_settings: Settings, pool: Pool, gateway: NomadGateway
) -> AsyncIterator[Dispatching]:
    async with dispatching(nomad_settings, pool, gateway) as active:
        yield active


@pytest.fixture
async def node(pool: Pool, group: GroupOfTest, gateway: NomadGateway) -> Node:
    made = await make_node(pool, group)
    key_id = await pool.fetchval("SELECT token_key_id FROM groups WHERE id = $1", group.id)
    assert await gateway.admit_node(made.id, f"group-{key_id}")
    return made
