"""What every route can ask for: settings, the pool, the Nomad clusters, the throttle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Annotated

from fastapi import Depends, Request

from leruli_queue.access.throttle import Throttle
from leruli_queue.api.metrics import Metrics
from leruli_queue.api.permits import Permits
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.backlog import Backlog
from leruli_queue.nodes.certificates import NodeSigner, load_authority
from leruli_queue.nodes.gate import Gate
from leruli_queue.nodes.join_limits import JoinLimits
from leruli_queue.nomad.clusters import Cluster, read_clusters
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection, Pool

_COME_AGAIN_S = 2
# A pool with fewer connections has one part for all long calls, so that some are left.
_SMALL_POOL = 4


class LongCall(Enum):
    """Calls that hold a connection for long; each kind has a part of the pool."""

    USAGE = "group-usage"
    ACTIVITY = "group-activity, task-resolve"
    CANCEL = "bulk/task-cancel"


@dataclass(frozen=True)
class Context:
    """The parts of a running service that its routes share."""

    settings: Settings
    pool: Pool
    clusters: Mapping[str, Cluster]
    gates: Mapping[str, Gate]
    throttle: Throttle
    metrics: Metrics
    backlog: Backlog
    permits: Mapping[LongCall, Permits]
    join_limits: JoinLimits

    @asynccontextmanager
    async def long_call(self, kind: LongCall, group_id: int) -> AsyncIterator[None]:
        """Keep calls of which one statement may take seconds to a part of the pool.

        To be entered before a connection is taken: they wait for each other, and the rest of the
        pool is left to all others. And after the secret was looked at, on a connection of its own:
        permits are the group's, and who has no secret of it holds none.

        Raises
        ------
        UserReportableError
            As :meth:`reading`.
        """
        async with AsyncExitStack() as held:
            permit = self.permits[kind].one(group_id, patience_s=self.settings.busy_after_s)
            try:
                await held.enter_async_context(permit)
            except TimeoutError:
                raise _busy() from None
            yield

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a connection: what is authorised on it is also read on it, without a pause.

        Raises
        ------
        UserReportableError
            503 when none was free for LERULI_QUEUE_BUSY_AFTER_S: the client comes again, and
            requests do not pile up here.
        """
        try:
            connection = await self.pool.acquire(timeout=self.settings.busy_after_s)
        except TimeoutError:
            raise _busy() from None
        try:
            yield connection
        finally:
            await self.pool.release(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """Lend a connection in a transaction, which is committed at the end of the block.

        Raises
        ------
        UserReportableError
            As :meth:`reading`.
        """
        async with self.reading() as connection, connection.transaction():
            yield connection

    def gate(self, name: str) -> Gate:
        """Return the gate of a cluster by its name in the database.

        Raises
        ------
        UserReportableError
            503 when the cluster is not in this service's settings.
        """
        if name not in self.gates:
            raise UserReportableError(
                f"The group's Nomad cluster {name!r} is not set up in this service. Whoever runs "
                "the service has to add it (LERULI_QUEUE_NOMAD_CLUSTERS_DIR).",
                status=503,
                retry_after=60,
            )
        return self.gates[name]


def _busy() -> UserReportableError:
    return UserReportableError(
        "The service is busy. Nothing was taken or lost; try again in a moment.",
        status=503,
        retry_after=_COME_AGAIN_S,
    )


@asynccontextmanager
async def open_context(
    settings: Settings, pool: Pool, throttle: Throttle, metrics: Metrics
) -> AsyncIterator[Context]:
    """Make the context of a service, with a line to each Nomad cluster, inside of the block.

    Raises
    ------
    leruli_queue.errors.SetupError
        When a cluster, a certificate or a key is not what it should be.
    """
    clusters = read_clusters(settings)
    lifetime = timedelta(seconds=settings.node_certificate_s)
    gates: dict[str, Gate] = {}
    gateways: list[NomadGateway] = []
    for name, cluster in clusters.items():
        cluster.tls()  # better refused now than found out at each call
        authority = load_authority(cluster.ca_file, cluster.ca_key_file)
        gateways.append(NomadGateway(cluster))
        gates[name] = Gate(name, gateways[-1], NodeSigner(authority, cluster.region, lifetime))
    try:
        permits = _permits(settings.database_pool_size)
        backlog = Backlog(settings.max_waiting, settings.max_waiting_user)
        joins = JoinLimits(
            settings.group_nodes, settings.node_unseen_s, settings.node_joins_a_minute
        )
        yield Context(settings, pool, clusters, gates, throttle, metrics, backlog, permits, joins)
    finally:
        for gateway in gateways:
            await gateway.close()


def _permits(connections: int) -> dict[LongCall, Permits]:
    """Give each kind of long call a quarter of the connections; the last one is for all others."""
    if connections < _SMALL_POOL:
        shared = Permits(1)
        return dict.fromkeys(LongCall, shared)
    return {kind: Permits(connections // 4) for kind in LongCall}


def context_of(request: Request) -> Context:
    """Return the parts that the request's service has.

    Raises
    ------
    UserReportableError
        503 while the service still waits for its database.
    """
    context: Context | None = getattr(request.app.state, "context", None)
    if context is None:
        raise UserReportableError(
            "The service is starting and waits for its database. Nothing was taken or lost; try "
            "again in a moment.",
            status=503,
            retry_after=_COME_AGAIN_S,
        )
    return context


def address_of(request: Request) -> str | None:
    """Return the address that a request comes from, as far as the proxies are trusted with it."""
    return request.client.host if request.client else None


# FastAPI runs what is not a coroutine in a thread, which takes longer than these do.
async def _context_of(request: Request) -> Context:
    return context_of(request)


async def _address_of(request: Request) -> str | None:
    return address_of(request)


ContextDep = Annotated[Context, Depends(_context_of)]
AddressDep = Annotated[str | None, Depends(_address_of)]
