"""Groups, nodes and jobs in the database, and calls to the service, for its tests."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leruli_queue.access.authenticate import Node, User, authenticate_user
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.api.app import create_app
from leruli_queue.embedded import postgres
from leruli_queue.embedded.processes import Part
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group
from leruli_queue.groups.users import create_user
from leruli_queue.jobs.intake import NewJob, submit_jobs
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


@dataclass
class PostgresOfTest:
    """A real PostgreSQL server that can be stopped and started."""

    part: Part
    url: str

    def start(self) -> None:
        self.part.start()
        self.part.wait_until(lambda: postgres.answers(self.url), seconds=30)

    async def alter(self, change: str) -> None:
        """Change a setting of the server, also for open connections."""
        connection = await asyncpg.connect(self.url)
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f"ALTER SYSTEM {change}")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop all of its processes inside the block, with their connections open."""
        assert self.part.process is not None
        main = self.part.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        processes = [main, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


@dataclass
class GroupOfTest:
    """A group with its secrets."""

    id: int
    token: str
    admin_secret: str
    user_secret: str
    compute_secret: str


async def pretend_a_dispatcher_is_active(connection: Connection) -> None:
    """Give queued jobs the reasons that they have with an active dispatcher.

    A real dispatcher takes over from this one.
    """
    await connection.execute(
        "INSERT INTO dispatchers (cluster, seen_at, slots_at)"
        " VALUES ($1, '2999-01-01Z', '2999-01-01Z')",
        DEFAULT,
    )


async def make_group(pool: Pool, name: str) -> GroupOfTest:
    async with pool.acquire() as connection:
        made = await create_group(connection, name)
        user = await create_user(connection, made.id, made.group_token, name="ada", is_admin=False)
        compute = await rotate_compute_secret(connection, made.id)
    return GroupOfTest(made.id, made.group_token, made.admin_secret, user, compute)


async def make_node(
    pool: Pool,
    group: GroupOfTest,
    *,
    cores: int = 4,
    memory_mb: int = 8000,
    cluster: str = DEFAULT,
) -> Node:
    """Make a node that is alive in the database, but unknown to Nomad."""
    node, _ = await make_node_with_token(
        pool, group, cores=cores, memory_mb=memory_mb, cluster=cluster
    )
    return node


async def make_node_with_token(
    pool: Pool,
    group: GroupOfTest,
    *,
    cores: int = 4,
    memory_mb: int = 8000,
    cluster: str = DEFAULT,
) -> tuple[Node, str]:
    """Make a node as :func:`make_node` does; also return its node token."""
    token = make(SecretType.NODE)
    epoch = await pool.fetchval("SELECT compute_epoch FROM groups WHERE id = $1", group.id)
    node_id = await queries.upsert_node(
        pool,
        id=uuid4(),
        group_id=group.id,
        cluster=cluster,
        name="machine",
        key_id=token.key_id,
        token_hash=token.hash,
        epoch=epoch,
        cores=cores,
        memory_mb=memory_mb,
        agent_version="test",
    )
    await pool.execute("UPDATE nodes SET alive = true WHERE id = $1", node_id)
    return Node(node_id, group.id), token.text


async def hear(pool: Pool, node: Node, *, for_s: float = 3600.0) -> None:
    """Record, as the fence does, that the node has been ready in Nomad for ``for_s`` seconds."""
    await pool.execute(
        "UPDATE nodes SET alive = true, alive_since = now() - make_interval(secs => $2) "
        "WHERE id = $1",
        node.id,
        for_s,
    )


async def stay_heard(pool: Pool) -> None:
    """Keep all nodes alive in the database: a FAKE of their clients, which Nomad lacks."""
    await pool.execute(
        """
        CREATE FUNCTION stay_heard() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.alive := true; NEW.nomad_trouble := NULL; RETURN NEW; END $$;
        CREATE TRIGGER stay_heard BEFORE INSERT OR UPDATE ON nodes
            FOR EACH ROW EXECUTE FUNCTION stay_heard();
        """
    )


def signing_request() -> str:
    """Return a node's signing request for its certificate, as PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


async def make_user(pool: Pool, group: GroupOfTest) -> User:
    return await authenticate_user(pool, group.user_secret)


async def make_jobs(
    pool: Pool, group: GroupOfTest, count: int, *, secret: str | None = None, **changes: object
) -> list[UUID]:
    """Make jobs of the group's user, or of the user with the secret."""
    user = await authenticate_user(pool, secret or group.user_secret)
    wanted = {
        "name": "default",
        "code": "psi4",
        "version": "1.3.2",
        "cores": 1,
        "memory_mb": 4000,
        "time_limit_s": 3600,
    } | changes
    jobs = [(user, NewJob(bucket=str(uuid4()), **wanted)) for _ in range(count)]
    return [job_id for job_id in await submit_jobs(pool, jobs) if isinstance(job_id, UUID)]


async def claim_jobs(
    pool: Pool,
    group: GroupOfTest,
    limit: int,
    *,
    node_set: str = "set",
    at_most: int | None = None,
    free: tuple[int, int] = (0, 0),
    full_cores: Sequence[int] = (),
    full_memories: Sequence[int] = (),
    most_combinations: int = 100,
    memory_steps: Sequence[int] = (),
) -> list[Any]:
    """Claim as the feeder does; by default with no unplaced attempt and no free resources."""
    return await rows(
        queries.claim_jobs(
            pool,
            group_id=group.id,
            cluster=DEFAULT,
            node_set=node_set,
            full_cores=list(full_cores),
            full_memories=list(full_memories),
            limit=limit,
            at_most=limit if at_most is None else at_most,
            free_cores=free[0],
            free_memory_mb=free[1],
            most_combinations=most_combinations,
            memory_steps=list(memory_steps),
        )
    )


async def state_of(pool: Pool, job_id: UUID) -> tuple[str, str | None]:
    row = await pool.fetchrow("SELECT state, reason FROM jobs WHERE id = $1", job_id)
    return row["state"], row["reason"]


@asynccontextmanager
async def holding(settings: Settings, lock: str) -> AsyncIterator[None]:
    """Hold a lock by another connection inside the block."""
    holder = await asyncpg.connect(settings.database_url.get_secret_value())
    async with holder.transaction():
        await holder.execute(lock)
        yield
    await holder.close()


async def until_blocked(pool: Pool, count: int) -> None:
    """Wait until ``count`` statements wait for a lock of any kind."""
    for _ in range(200):
        blocked = await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        )
        if blocked >= count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("nothing is blocked")


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run the service's application, called without a network."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await app.state.opened.wait()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client


async def leruli_queue(
    *arguments: str, database: str | None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of the operator, with a text on its standard input."""
    environment = {name: os.environ[name] for name in os.environ if "LERULI" not in name}
    if database:
        environment["LERULI_QUEUE_DATABASE_URL"] = database
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "leruli_queue", *arguments],
        env=environment,
        input=text,
        capture_output=True,
        text=True,
    )


async def call(service: httpx.AsyncClient, path: str, **body: Any) -> Any:
    """Call the service; the status must be 200."""
    answer = await service.post(f"/v22_1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def join(service: httpx.AsyncClient, group: GroupOfTest, **fields: Any) -> Any:
    """Join a machine to the group, as its agent does."""
    machine = {"name": "machine", "cores": 4, "memorymb": 8000, "csr": signing_request()}
    secrets = {"grouptoken": group.token, "computesecret": group.compute_secret}
    return await call(service, "node-join", **(machine | secrets | fields))
