"""The dispatcher as a whole: waits to be the active one, then runs the duties side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from leruli_queue.dispatch.feeder import Feeder
from leruli_queue.dispatch.leadership import Leadership, LeadershipLostError, lead
from leruli_queue.dispatch.parents import Parents
from leruli_queue.dispatch.reconciler import Reconciler
from leruli_queue.dispatch.stopper import Stopper
from leruli_queue.dispatch.tracker import Tracker
from leruli_queue.nomad.gateway import NomadError, NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import DATABASE_AWAY, Pool

log = structlog.get_logger(__name__)

_PATIENCE_S = (0.5, 1.0, 2.0, 5.0)


async def dispatch_for_ever(settings: Settings, pool: Pool) -> None:
    """Be a dispatcher: stand by, be active, stand by again when the database was lost."""
    while True:
        try:
            async with lead(settings) as leadership:
                await _be_active(settings, pool, leadership)
        except* LeadershipLostError:
            log.warning("the database connection broke; no longer the active dispatcher")
        except* DATABASE_AWAY as errors:
            log.warning("the database is away", why=_causes(errors))
        await asyncio.sleep(1.0)


async def _be_active(settings: Settings, pool: Pool, leadership: Leadership) -> None:
    gateway = NomadGateway(settings)
    try:
        parents = Parents(pool, gateway, settings)
        reconciler = Reconciler(settings, pool, gateway, parents)
        feeder = Feeder(settings, pool, leadership, gateway, parents)
        tracker = Tracker(settings, pool, reconciler)
        stopper = Stopper(pool, gateway)
        async with asyncio.TaskGroup() as duties:
            duties.create_task(leadership.watch())
            for duty in (feeder.run, tracker.run, reconciler.run, stopper.run):
                duties.create_task(_keep_on(duty))
    finally:
        gateway.close()


async def _keep_on(duty: Callable[[], Awaitable[None]]) -> None:
    """Run a duty again whenever something fails it, at growing intervals."""
    name = duty.__qualname__
    failures = 0
    clock = asyncio.get_running_loop()
    while True:
        since = clock.time()
        try:
            await duty()
        except* LeadershipLostError:
            raise
        except* NomadError as errors:
            log.warning("waiting for Nomad", duty=name, why=_causes(errors))
        except* DATABASE_AWAY as errors:
            log.warning("waiting for the database", duty=name, why=_causes(errors))
        except* Exception:
            # A defect in one duty must not end the others.
            log.exception("a duty failed; it goes on", duty=name)
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
