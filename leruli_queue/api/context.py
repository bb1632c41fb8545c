"""The context of a route: settings, the pool, the Nomad clusters, limits and the throttle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Annotated

from fastapi import Depends, Request

from leruli_queue.access.throttle import Throttle
from leruli_queue.api.event_watch import EventWatch
from leruli_queue.api.held_reports import HeldReports
from leruli_queue.api.metrics import Metrics
from leruli_queue.api.permits import Permits
from leruli_queue.api.waiting import Waits
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.backlog import Backlog
from leruli_queue.nodes.certificates import NodeSigner, load_authority
from leruli_queue.nodes.gate import Gate
from leruli_queue.nodes.join_limits import JoinLimits
from leruli_queue.nodes.report import NODE_NEWS
from leruli_queue.nomad.clusters import Cluster, read_clusters
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.listening import Listener
from leruli_queue.store.pool import Connection, Pool

_RETRY_AFTER_S = 2
# In a smaller pool all long calls share one connection, so that others are left.
_SMALL_POOL = 4
# Waiting calls of one user, or of one group token, in one process.
_MOST_WAITS_OF_ONE = 200


class LongCall(Enum):
    """Calls that hold a connection for long. Each kind has its own share of the pool."""

    USAGE = "group-usage"
    ACTIVITY = "group-activity, task-resolve"
    CANCEL = "bulk/task-cancel, batch-cancel"


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
    waits: Waits
    event_watch: EventWatch
    held_reports: HeldReports

    @asynccontextmanager
    async def long_call(self, kind: LongCall, group_id: int) -> AsyncIterator[None]:
        """Hold a permit for a call whose statement may take seconds.

        The permits keep such calls to a share of the pool, so that other calls find connections.

        - Enter this before taking a connection: a call must not occupy one while it waits.
        - Authenticate before it, on a connection of its own. Permits belong to groups, so a client
          without a secret of the group must not get one.

        Raises
        ------
        UserReportableError
            As :meth:`reading`.
        """
        async with AsyncExitStack() as held:
            permit = self.permits[kind].one(group_id, timeout_s=self.settings.busy_after_s)
            try:
                await held.enter_async_context(permit)
            except TimeoutError:
                raise _busy() from None
            yield

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """Lend a connection, to authorise and to read on it.

        Raises
        ------
        UserReportableError
            503 when no connection was free for LERULI_QUEUE_BUSY_AFTER_S. The client tries again,
            and requests do not pile up here.
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
        """Lend a connection in a transaction, which commits at the end of the block.

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
                f"The group's Nomad cluster {name!r} is not set up in this service. The operator "
                "of the service has to add it (LERULI_QUEUE_NOMAD_CLUSTERS_DIR).",
                status=503,
                retry_after=60,
            )
        return self.gates[name]


def _busy() -> UserReportableError:
    return UserReportableError(
        "The service is busy. Nothing was changed or lost; try again in a moment.",
        status=503,
        retry_after=_RETRY_AFTER_S,
    )


@asynccontextmanager
async def open_context(
    settings: Settings, pool: Pool, throttle: Throttle, metrics: Metrics
) -> AsyncIterator[Context]:
    """Build the context of a service, with a gateway to each Nomad cluster, for the block.

    Raises
    ------
    leruli_queue.errors.SetupError
        When the settings of a cluster, a certificate or a key are wrong.
    """
    clusters = read_clusters(settings)
    lifetime = timedelta(seconds=settings.node_certificate_s)
    gates: dict[str, Gate] = {}
    gateways: list[NomadGateway] = []
    for name, cluster in clusters.items():
        cluster.tls()  # raises SetupError now, instead of an error at each call
        authority = load_authority(cluster.ca_file, cluster.ca_key_file)
        gateways.append(NomadGateway(cluster))
        gates[name] = Gate(name, gateways[-1], NodeSigner(authority, cluster.region, lifetime))
    waits = Waits(most=settings.max_connections // 2, most_of_one=_MOST_WAITS_OF_ONE)
    event_watch = EventWatch(pool)
    watching = asyncio.create_task(event_watch.run())
    try:
        permits = _permits(settings.database_pool_size)
        backlog = Backlog(settings.max_waiting, settings.max_waiting_user)
        joins = JoinLimits(
            settings.group_nodes, settings.node_unseen_s, settings.node_joins_a_minute
        )
        listener = Listener(settings, [NODE_NEWS])
        async with listener.running():
            yield Context(
                settings,
                pool,
                clusters,
                gates,
                throttle,
                metrics,
                backlog,
                permits,
                joins,
                waits,
                event_watch,
                HeldReports(listener),
            )
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        for gateway in gateways:
            await gateway.close()


def _permits(connections: int) -> dict[LongCall, Permits]:
    """Give each kind of long call a quarter of the connections; other calls have the last one."""
    if connections < _SMALL_POOL:
        shared = Permits(1)
        return dict.fromkeys(LongCall, shared)
    return {kind: Permits(connections // 4) for kind in LongCall}


def context_of(request: Request) -> Context:
    """Return the context of the service that handles a request.

    Raises
    ------
    UserReportableError
        503 while the service still waits for its database.
    """
    context: Context | None = getattr(request.app.state, "context", None)
    if context is None:
        raise UserReportableError(
            "The service is starting and waits for its database. Nothing was changed or lost; try "
            "again in a moment.",
            status=503,
            retry_after=_RETRY_AFTER_S,
        )
    return context


def address_of(request: Request) -> str | None:
    """Return the client's address of a request, as the trusted proxies report it."""
    return request.client.host if request.client else None


# Coroutines, because FastAPI runs a plain function in a thread, which takes longer.
async def _context_of(request: Request) -> Context:
    return context_of(request)


async def _address_of(request: Request) -> str | None:
    return address_of(request)


ContextDep = Annotated[Context, Depends(_context_of)]
AddressDep = Annotated[str | None, Depends(_address_of)]
