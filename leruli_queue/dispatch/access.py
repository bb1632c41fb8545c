"""Whether this dispatcher can use a cluster's Nomad.

A dispatcher that cannot use it leaves the cluster to others: they have their own token, certificate
and network. It notes in PostgreSQL that it runs and cannot use Nomad. The service reads that note
when it tells users why their jobs wait.
"""

from __future__ import annotations

import asyncio

import structlog

from leruli_queue.dispatch.leadership import Leadership
from leruli_queue.nomad.errors import NomadError, NomadForbiddenError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

log = structlog.get_logger(__name__)

_POLL_EVERY_S = 2.0
_NOTE_EVERY_S = 5.0
# A server that has just started may refuse a token that it has not read yet.
_REFUSED_POLLS = 2
# After the loss of a leader, servers elect a new one within a few seconds.
_AWAY_S = 20.0
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
# Silence after which an active dispatcher counts as ended: it notes itself every 5 s.
NOT_HEARD_S = 20.0


class NomadUnusableError(Exception):
    """The dispatcher cannot use the cluster's Nomad; another one may be able to."""


async def wait_until_usable(pool: Pool, gateway: NomadGateway) -> None:
    """Return as soon as the cluster's Nomad can be used.

    Called before the dispatcher leads. It logs each new reason once.
    """
    failures, logged = 0, ""
    while True:
        try:
            await gateway.check_access()
        except NomadError as error:
            why = str(error)
        else:
            return
        if why != logged:
            log.error("Nomad cannot be used from here", cluster=gateway.cluster.name, why=why)
            logged = why
        await queries.note_nomad_away(pool, cluster=gateway.cluster.name, silence_s=NOT_HEARD_S)
        await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
        failures += 1


async def watch_access(leadership: Leadership, gateway: NomadGateway) -> None:
    """Check Nomad every few seconds and note that the dispatcher runs; never return.

    Raises
    ------
    NomadUnusableError
        When Nomad refused access twice in a row, or was away for 20 s.
    LeadershipLostError
        When the connection that holds the lock is gone.
    """
    clock = asyncio.get_running_loop()
    failing_since: float | None = None
    refused, noted_at = 0, float("-inf")
    while True:
        began = clock.time()
        try:
            await gateway.check_access()
        except NomadError as error:
            failing_since = began if failing_since is None else failing_since
            refused = refused + 1 if isinstance(error, NomadForbiddenError) else 0
            if refused >= _REFUSED_POLLS or clock.time() - failing_since > _AWAY_S:
                raise NomadUnusableError(str(error)) from None
        else:
            failing_since, refused = None, 0
        if clock.time() - noted_at >= _NOTE_EVERY_S or failing_since is not None:
            away_s = None if failing_since is None else clock.time() - failing_since
            async with leadership.connection() as connection:
                await queries.note_dispatcher(
                    connection, cluster=gateway.cluster.name, away_s=away_s
                )
            noted_at = clock.time()
        await asyncio.sleep(_POLL_EVERY_S)
