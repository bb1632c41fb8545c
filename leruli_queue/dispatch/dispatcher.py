"""The dispatcher as a whole: waits to be the active one, then runs the duties side by side.

Each Nomad cluster has duties of its own, so that one that is away does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import structlog

from leruli_queue.dispatch.feeder import Feeder
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.leadership import (
    Leadership,
    LeadershipLostError,
    NoChangesTakenError,
    lead,
)
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.dispatch.stopper import Stopper
from leruli_queue.dispatch.tracker import Tracker
from leruli_queue.nomad.clusters import Cluster, read_clusters
from leruli_queue.nomad.errors import NomadError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import DATABASE_AWAY, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

_PATIENCE_S = (0.5, 1.0, 2.0, 5.0)
_CANCEL_AGAIN_S = 0.5


async def dispatch_for_ever(settings: Settings, pool: Pool) -> None:
    """Be a dispatcher: stand by, be active, stand by again when the database was lost.

    Raises
    ------
    leruli_queue.errors.SetupError
        When a Nomad cluster is not described as it should be.
    """
    clusters = read_clusters(settings)
    for cluster in clusters.values():
        cluster.tls()  # better refused now than found out at each call
    while True:
        try:
            async with lead(settings) as leadership:
                await _be_active(settings, pool, clusters, leadership)
        except* LeadershipLostError:
            log.warning("the database connection broke; no longer the active dispatcher")
        except* NoChangesTakenError:
            log.warning("the database takes no changes; waiting until it does")
        except* DATABASE_AWAY as errors:
            log.warning("the database is away", why=_causes(errors))
        await asyncio.sleep(1.0)


async def end(work: asyncio.Task[None]) -> None:
    """Cancel until it has ended.

    Of a cancellation and a failure that meet, a task group raises the failure alone (before Python
    3.13), and whoever goes on after failures goes on.
    """
    while not work.done():
        work.cancel()
        await asyncio.wait({work}, timeout=_CANCEL_AGAIN_S)


async def _be_active(
    settings: Settings, pool: Pool, clusters: Mapping[str, Cluster], leadership: Leadership
) -> None:
    for row in await rows(queries.clusters_in_use(pool)):
        if row["cluster"] not in clusters:
            log.error(
                "groups are in a Nomad cluster that is not set up here; their jobs wait",
                cluster=row["cluster"],
                groups=row["groups"],
            )
    gateways = [NomadGateway(cluster) for cluster in clusters.values()]
    try:
        async with asyncio.TaskGroup() as duties:
            duties.create_task(leadership.watch())
            for gateway in gateways:
                for duty in _duties(settings, pool, leadership, gateway):
                    duties.create_task(_keep_on(duty, gateway.cluster.name))
    finally:
        for gateway in gateways:
            await gateway.close()


def _duties(
    settings: Settings, pool: Pool, leadership: Leadership, gateway: NomadGateway
) -> list[Callable[[], Awaitable[None]]]:
    parents = Parents(pool, gateway, settings)
    reconciler = Reconciler(settings, pool, gateway, Fence(settings, pool, gateway))
    feeder = Feeder(settings, pool, leadership, gateway, parents)
    tracker = Tracker(pool, gateway.cluster, reconciler)
    return [feeder.run, tracker.run, reconciler.run, Stopper(pool, gateway).run, parents.run]


async def _keep_on(duty: Callable[[], Awaitable[None]], cluster: str) -> None:
    """Run a duty again whenever something fails it, at growing intervals."""
    bound = {"duty": duty.__qualname__, "cluster": cluster}
    failures = 0
    clock = asyncio.get_running_loop()
    this = cast("asyncio.Task[None]", asyncio.current_task())
    while True:
        since = clock.time()
        try:
            await duty()
        except* LeadershipLostError:
            raise
        except* NomadError as errors:
            log.warning("waiting for Nomad", **bound, why=_causes(errors))
        except* DATABASE_AWAY as errors:
            log.warning("waiting for the database", **bound, why=_causes(errors))
        except* Exception:
            # A defect in one duty must not end the others.
            log.exception("a duty failed; it goes on", **bound)
        if this.cancelling():
            # It met the failure, which is all that a task group raises then (before Python 3.13).
            # Nobody asks again: the others have ended, and wait for this one.
            raise asyncio.CancelledError
        if clock.time() - since > _PATIENCE_S[-1]:
            failures = 0
        await asyncio.sleep(_PATIENCE_S[min(failures, len(_PATIENCE_S) - 1)])
        failures += 1


def _causes(errors: BaseExceptionGroup[BaseException]) -> str:
    causes: list[str] = []
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            causes.append(_causes(error))
        else:
            causes.append(f"{type(error).__name__}: {error}")
    return "; ".join(dict.fromkeys(causes))
