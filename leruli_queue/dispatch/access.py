"""Whether this dispatcher can use a cluster's Nomad.

One that cannot leaves the cluster to others, which may: its token, certificate or network is its
own. It says in PostgreSQL that it is there and cannot, for the reasons that users are told.
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

_LOOK_EVERY_S = 2.0
_NOTE_EVERY_S = 5.0
# A server that has just started may refuse what it has not read yet.
_REFUSED_LOOKS = 2
# Servers elect a leader anew within a few seconds.
_AWAY_S = 20.0
_AGAIN_S = (0.5, 1.0, 2.0, 5.0)
# An active dispatcher that has said nothing for so long has ended: it notes itself every 5 s.
NOT_HEARD_S = 20.0


class NomadUnusableError(Exception):
    """A dispatcher cannot use the cluster's Nomad; another one may be able to."""


async def until_usable(pool: Pool, gateway: NomadGateway) -> None:
    """Return as soon as the cluster's Nomad can be used; for one that does not lead yet."""
    failures, told = 0, ""
    while True:
        try:
            await gateway.check_access()
        except NomadError as error:
            why = str(error)
        else:
            return
        if why != told:
            log.error("Nomad cannot be used from here", cluster=gateway.cluster.name, why=why)
            told = why
        await queries.note_nomad_away(pool, cluster=gateway.cluster.name, silence_s=NOT_HEARD_S)
        await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
        failures += 1


async def keep_access(leadership: Leadership, gateway: NomadGateway) -> None:
    """Return never; look at Nomad every few seconds, and note that the dispatcher is there.

    Raises
    ------
    NomadUnusableError
        When Nomad refused it twice, or was away for 20 s.
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
            if refused >= _REFUSED_LOOKS or clock.time() - failing_since > _AWAY_S:
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
        await asyncio.sleep(_LOOK_EVERY_S)
