"""The dispatcher as a whole: waits to be the active one, then runs the duties side by side.

Each Nomad cluster has its own lock and its own duties. So a cluster that is away, or that this
process cannot use, does not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import cast

import structlog

from leruli_queue.dispatch.access import NomadUnusableError, wait_until_usable, watch_access
from leruli_queue.dispatch.feeder import Feeder
from leruli_queue.dispatch.fence import Fence
from leruli_queue.dispatch.leadership import (
    Leadership,
    LeadershipLostError,
    NoChangesTakenError,
    lead,
)
from leruli_queue.dispatch.maintenance import Maintenance
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.stopper import Stopper
from leruli_queue.dispatch.tracker import Tracker
from leruli_queue.mail.outbox import Outbox
from leruli_queue.mail.smtp import Server
from leruli_queue.nomad.clusters import Cluster, read_clusters
from leruli_queue.nomad.errors import NomadError, NomadForbiddenError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import DATABASE_AWAY, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_CANCEL_AGAIN_S = 0.5
_LOST_S = 1.0
# Refusals of a duty's calls that last longer than this are not momentary.
_REFUSED_S = 10.0
# Pause from leaving a cluster to competing for it again. It doubles each time, so that two
# dispatchers which both cannot use the cluster do not exchange it all the time. It starts again at
# its smallest after _LONG_S of work.
_LEFT_S, _MOST_LEFT_S = 5.0, 60.0
_LONG_S = 120.0


async def dispatch_for_ever(settings: Settings, pool: Pool) -> None:
    """Be a dispatcher: for each Nomad cluster stand by, be active, and stand by again.

    Raises
    ------
    leruli_queue.errors.SetupError
        When the description of a Nomad cluster is wrong, or a certificate cannot be read.
    """
    clusters = read_clusters(settings)
    mail_server = Server.of(settings)
    for cluster in clusters.values():
        cluster.tls()  # fail at the start rather than at each call
        if not cluster.token:
            log.warning(
                "no token for Nomad is set: a Nomad with ACLs, which it should have, refuses all "
                "calls (LERULI_QUEUE_NOMAD_TOKEN)",
                cluster=cluster.name,
            )
    tasks = [asyncio.create_task(_serve_cluster(settings, pool, one)) for one in clusters.values()]
    tasks.append(
        asyncio.create_task(_run_with_retries(lambda: _log_missing_clusters(pool, clusters), "all"))
    )
    if mail_server is not None:
        # Of each dispatcher, active or not: mails are shared by leases, and need no Nomad.
        outbox = Outbox(mail_server, pool)
        tasks.append(asyncio.create_task(_run_with_retries(outbox.run, "all")))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        # Not a TaskGroup: it would cancel them only once (see cancel_until_done).
        while pending := [task for task in tasks if not task.done()]:
            for task in pending:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


async def cancel_until_done(work: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended.

    Before Python 3.13 a TaskGroup swallows a cancellation that arrives together with a failure.
    A task that retries after failures then goes on. So one cancellation is not enough.
    """
    while not work.done():
        work.cancel()
        await asyncio.wait({work}, timeout=_CANCEL_AGAIN_S)


async def _serve_cluster(settings: Settings, pool: Pool, cluster: Cluster) -> None:
    """Be active for a cluster whenever no other dispatcher is and its Nomad can be used from here.

    A single cancellation can be lost, see :func:`cancel_until_done`: cancel until it has ended.
    """
    clock = asyncio.get_running_loop()
    bound = {"cluster": cluster.name}
    failed_turns = 0
    while True:
        since = clock.time()
        pause_s = _LOST_S
        gateway = NomadGateway(cluster)
        try:
            await wait_until_usable(pool, gateway)
            async with lead(settings, cluster.name) as leadership:
                since = clock.time()
                await _be_active(settings, pool, leadership, gateway)
        except* NomadUnusableError as errors:
            failed_turns = failed_turns + 1 if clock.time() - since < _LONG_S else 1
            pause_s = min(_LEFT_S * 2 ** (failed_turns - 1), _MOST_LEFT_S)
            log.error(
                "this dispatcher cannot use Nomad; it leaves the cluster to others",
                **bound,
                why=_causes(errors),
                again_after_s=pause_s,
            )
        except* LeadershipLostError:
            log.warning("the database connection broke; no longer the active dispatcher", **bound)
        except* NoChangesTakenError:
            log.warning("the database takes no changes; waiting until it does", **bound)
        except* DATABASE_AWAY as errors:
            log.warning("the database is away", **bound, why=_causes(errors))
        finally:
            await gateway.close()
        await asyncio.sleep(pause_s)


async def _be_active(
    settings: Settings, pool: Pool, leadership: Leadership, gateway: NomadGateway
) -> None:
    async with asyncio.TaskGroup() as duties:
        duties.create_task(leadership.watch())
        duties.create_task(watch_access(leadership, gateway))
        for duty in _duties(settings, pool, leadership, gateway):
            duties.create_task(_run_with_retries(duty, gateway.cluster.name))


async def _log_missing_clusters(pool: Pool, clusters: Collection[str]) -> None:
    for row in await rows(queries.clusters_in_use(pool)):
        if row["cluster"] not in clusters:
            log.error(
                "groups are in a Nomad cluster that is not set up here; their jobs wait for a "
                "dispatcher that has it",
                cluster=row["cluster"],
                groups=row["groups"],
            )
    await asyncio.Event().wait()


def _duties(
    settings: Settings, pool: Pool, leadership: Leadership, gateway: NomadGateway
) -> list[Callable[[], Awaitable[None]]]:
    parents = Parents(pool, gateway, settings)
    maintenance = Maintenance(settings, pool, gateway, Fence(settings, pool, gateway))
    feeder = Feeder(settings, pool, leadership, gateway, parents)
    tracker = Tracker(pool, gateway.cluster, maintenance.reconciler)
    return [feeder.run, tracker.run, maintenance.run, Stopper(pool, gateway).run, parents.run]


async def _run_with_retries(duty: Callable[[], Awaitable[None]], cluster: str) -> None:
    """Run a duty; start it again after each failure, with back-off."""
    bound = {"duty": duty.__qualname__, "cluster": cluster}
    failures = 0
    clock = asyncio.get_running_loop()
    this = cast("asyncio.Task[None]", asyncio.current_task())
    refused_since: float | None = None
    while True:
        since = clock.time()
        refusal = ""
        try:
            await duty()
        except* LeadershipLostError:
            raise
        except* NomadForbiddenError as errors:
            refusal = _causes(errors)
            log.warning("Nomad refuses a call", **bound, why=refusal)
        except* NomadError as errors:
            log.warning("waiting for Nomad", **bound, why=_causes(errors))
        except* DATABASE_AWAY as errors:
            log.warning("waiting for the database", **bound, why=_causes(errors))
        except* Exception:
            # A defect in one duty must not end the others.
            log.exception("a duty failed and is started again", **bound)
        if this.cancelling():
            # The cancellation arrived together with the failure, and the TaskGroup raised only the
            # failure (see cancel_until_done). Nobody cancels again: the other duties have ended
            # and wait for this one.
            raise asyncio.CancelledError
        refused_since = (refused_since or since) if refusal else None
        if refused_since and clock.time() - refused_since > _REFUSED_S:
            raise NomadUnusableError(refusal)
        if clock.time() - since > _BACKOFF_S[-1]:
            failures, refused_since = 0, None
        await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
        failures += 1


def _causes(errors: BaseExceptionGroup[BaseException]) -> str:
    causes: list[str] = []
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            causes.append(_causes(error))
        else:
            causes.append(f"{type(error).__name__}: {error}")
    return "; ".join(dict.fromkeys(causes))
