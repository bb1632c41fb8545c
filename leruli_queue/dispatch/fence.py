"""The fence: who may be placed on is the database's word, and Nomad is held to it.

A node chooses its pool, name and meta itself, and a machine that was once let in can register
under further ids. None of that gets it a job: parents name the ids of their group's usable nodes,
and leave to start is given to the node token. The fence is the second line. It looks at all nodes
of the cluster every few seconds:

=============================================  ==============================================
node in Nomad                                  done
=============================================  ==============================================
usable, in its group's pool                    made eligible, where it is not
of an older compute secret, left, drained,     made ineligible; what runs on it runs on
of another cluster
in a pool that is not its group's              made ineligible, and noted
of an agent that does not report, as others    made ineligible; what runs on it runs on
of the cluster do
unknown, or removed                            made ineligible
of an id that the service gives to nobody      passed over: no parent can name it
=============================================  ==============================================

An agent that hangs starts nothing of what its Nomad, which lives, is given. No node is blamed while
none of the cluster reports, nor before others have reported for as long as it was silent: then it
is, or was, the service that is away.

It also notes which nodes Nomad hears, and since when: jobs are dispatched to those alone, and a
silent node's are given up only where one of them was heard for long enough
(docs/developers/attempts.md).

Nothing is ever purged: Nomad forgets a purged node's ineligibility, and the node would come back
eligible and without any token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from leruli_queue.naming import pool_name
from leruli_queue.nomad.errors import NomadNotFoundError
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import NODE_DRIVER, node_id_of
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

FOREIGN_POOL = (
    "its Nomad client registered in another node pool than its group's: its configuration was "
    "changed by hand"
)
_DOCKER_AWAY = "Docker on it does not answer"
_NOT_HEARD = "Nomad does not hear it"
_AGENT_SILENT = (
    "its node agent hangs or does not reach the service: Nomad hears the node, the service does not"
)

# A report that is late is no sign of anything.
_REPORTS_MISSED = 4

# A node that is heard at two looks this far apart (seconds) counts as heard in between. A round of
# the reconciler takes a few; of longer absences, its own or Nomad's, nothing is known.
_LOOKED_AWAY_S = 60.0


@dataclass(frozen=True)
class _Verdict:
    eligible: bool
    # Ready for jobs, and what is wrong if not; for the database.
    alive: bool
    trouble: str | None


class Fence:
    """Keeps the nodes of one cluster as the database wants them."""

    def __init__(self, settings: Settings, pool: Pool, gateway: NomadGateway) -> None:
        self._agent_silence = timedelta(
            seconds=max(settings.node_silence_s, _REPORTS_MISSED * settings.node_report_s)
        )
        self._unseen_s = settings.node_unseen_s
        self._pool = pool
        self._gateway = gateway
        # The nodes that did not answer Nomad at the last comparison.
        self.unheard: frozenset[UUID] = frozenset()
        # When that was, by the clock of the loop; None before the first.
        self._looked_at: float | None = None
        # The newest report of any node, and since when one has followed another without a gap.
        self._newest_report = self._reported_since = datetime.min.replace(tzinfo=UTC)
        # Since when reports of the cluster come, as far as is known: what a node could not tell
        # before is not held against it. None where no node ever reported.
        self.reports_come_since: datetime | None = None

    async def keep(self) -> None:
        """Compare all nodes of the cluster with the database, once."""
        looks_at = asyncio.get_running_loop().time()
        # Nomad first: a node that joins in between is in the database before it can register.
        # One whose id is none of ours is in no parent's list and gets nothing; it is passed over.
        listed = {
            node_id: node
            for node in await self._gateway.list_nodes()
            if (node_id := node_id_of(node["ID"]))
        }
        known = {
            row["id"]: row
            for row in await rows(
                queries.nodes_of_cluster(
                    self._pool, cluster=self._gateway.cluster.name, unseen_s=self._unseen_s
                )
            )
        }
        silent = self._silent_agents(known)
        verdicts = {
            node_id: _judge(known.get(node_id), listed.get(node_id), node_id in silent)
            for node_id in listed.keys() | known.keys()
        }
        self.unheard = frozenset(
            node_id for node_id, verdict in verdicts.items() if verdict.trouble == _NOT_HEARD
        )
        noted = {node_id: verdicts[node_id] for node_id in known}
        await queries.note_nodes(
            self._pool,
            ids=list(noted),
            alives=[verdict.alive for verdict in noted.values()],
            # One that has just joined gets the time to register before it is called troubled.
            troubles=[
                verdict.trouble if verdict.trouble != _NOT_HEARD or known[node_id]["old"] else None
                for node_id, verdict in noted.items()
            ],
            anew=self._looked_at is None or looks_at - self._looked_at > _LOOKED_AWAY_S,
        )
        self._looked_at = looks_at
        for node_id, node in listed.items():
            is_eligible = node["SchedulingEligibility"] == "eligible"
            # A drain ends ineligible by itself; what it still has to do must not be called off.
            if verdicts[node_id].eligible != is_eligible and not node["Drain"]:
                await self._set(node_id, node, eligible=verdicts[node_id].eligible)

    def _silent_agents(self, known: Mapping[UUID, Any]) -> set[UUID]:
        """Return the nodes whose agents were silent for long, while those of others reported."""
        reports = [row["reported_at"] for row in known.values() if row["reported_at"]]
        if not reports:
            return set()
        newest = max(reports)
        longest_gap = self._agent_silence / 2
        # After a gap the service was away, from all: the others' first reports are under way.
        if newest - self._newest_report > longest_gap:
            self._reported_since = newest
        self._newest_report = newest
        [now, *_] = (row["now"] for row in known.values())
        self.reports_come_since = now if now - newest > longest_gap else self._reported_since
        since = newest - self._agent_silence
        if self._reported_since > since:
            return set()
        # One that has joined anew gets the time to report.
        return {node_id for node_id, row in known.items() if row["told_at"] < since}

    async def _set(self, node_id: UUID, node: dict[str, Any], *, eligible: bool) -> None:
        try:
            await self._gateway.set_eligible(node_id, eligible=eligible)
        except NomadNotFoundError:
            return
        log.log(
            20 if eligible else 30,
            "node made eligible" if eligible else "node made ineligible",
            node=str(node_id),
            pool=node["NodePool"],
            cluster=self._gateway.cluster.name,
        )


def _judge(known: Any, node: dict[str, Any] | None, agent_is_silent: bool) -> _Verdict:
    if known is None:
        return _Verdict(eligible=False, alive=False, trouble=None)
    if node is None or node["Status"] != "ready":
        eligible = known["usable"] and (
            node is None or node["NodePool"] == pool_name(known["token_key_id"])
        )
        return _Verdict(eligible=eligible, alive=False, trouble=_NOT_HEARD)
    if node["NodePool"] != pool_name(known["token_key_id"]):
        return _Verdict(eligible=False, alive=False, trouble=FOREIGN_POOL)
    driver = (node["Drivers"] or {}).get(NODE_DRIVER)
    # A client that has just started has not looked for Docker yet.
    if driver and not driver.get("Healthy"):
        # An agent that waits for it may be silent too.
        return _Verdict(eligible=known["usable"], alive=False, trouble=_DOCKER_AWAY)
    if agent_is_silent and known["usable"]:
        return _Verdict(eligible=False, alive=False, trouble=_AGENT_SILENT)
    return _Verdict(eligible=known["usable"], alive=True, trouble=None)
