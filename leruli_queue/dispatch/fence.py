"""The fence: the database decides which nodes get jobs, and the fence makes Nomad agree.

A node chooses its own pool, name and meta, and a machine that once joined can register under more
ids. None of that gets it a job: parent jobs name the ids of their group's usable nodes, and a start
grant needs the node token. The fence is the second line of defence. It compares all nodes of the
cluster with the database every few seconds:

=============================================  ==============================================
node in Nomad                                  the fence
=============================================  ==============================================
usable, in its group's pool                    makes it eligible, where it is not
outdated, left, drained, or of another         makes it ineligible; its jobs go on
cluster
in a pool that is not its group's              makes it ineligible, and notes it
with an agent that does not report while       makes it ineligible; its jobs go on
others of the cluster do
unknown, or removed                            makes it ineligible
with an id that the service never gave out     passes over it: no parent job can name it
=============================================  ==============================================

A hung agent never starts what its live Nomad client is given. Silence of an agent counts as a hang
only if other nodes reported for as long as it was silent. Otherwise the service is, or was, down.

The fence also notes which nodes Nomad hears, and since when. Jobs are dispatched to those alone.
Attempts of a silent node are abandoned only where one of those was heard for long enough
(docs/developers/attempts.md).

The fence never purges a node: Nomad forgets the ineligibility of a purged node, and the node would
come back eligible and without any token.
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

# A single late report is no sign of a hang.
_REPORTS_MISSED = 4

# Longest gap (s) between two comparisons for which a node that was heard at both counts as heard in
# between. A round of maintenance takes a few seconds. What happened in longer absences, of this
# process or of Nomad, is unknown.
_MAX_GAP_S = 60.0


@dataclass(frozen=True)
class _Verdict:
    eligible: bool
    # For the database: whether it is ready for jobs, and what is wrong if not.
    alive: bool
    trouble: str | None


class Fence:
    """Makes Nomad's nodes of one cluster agree with the database."""

    def __init__(self, settings: Settings, pool: Pool, gateway: NomadGateway) -> None:
        self._agent_silence = timedelta(
            seconds=max(settings.node_silence_s, _REPORTS_MISSED * settings.node_report_s)
        )
        self._unseen_s = settings.node_unseen_s
        self._pool = pool
        self._gateway = gateway
        # The nodes that did not answer Nomad at the last comparison.
        self.unheard: frozenset[UUID] = frozenset()
        # When that comparison was, by the clock of the loop; None before the first.
        self._compared_at: float | None = None
        # The newest report of any node, and since when reports have come without a gap.
        self._newest_report = self._reported_since = datetime.min.replace(tzinfo=UTC)
        # Since when reports of the cluster come, as far as is known. Receipts that a node could not
        # deliver before count as not late. None if no node ever reported.
        self.reports_come_since: datetime | None = None

    async def enforce(self) -> None:
        """Compare all nodes of the cluster with the database, once."""
        comparing_at = asyncio.get_running_loop().time()
        # Nomad's list first: a node that joins in between is in the database before it registers.
        # Nodes with an id that is not ours are passed over: they are in no parent job's list.
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
            # A node that has just joined gets time to register before it counts as troubled.
            troubles=[
                verdict.trouble if verdict.trouble != _NOT_HEARD or known[node_id]["old"] else None
                for node_id, verdict in noted.items()
            ],
            unobserved=self._compared_at is None or comparing_at - self._compared_at > _MAX_GAP_S,
        )
        self._compared_at = comparing_at
        for node_id, node in listed.items():
            is_eligible = node["SchedulingEligibility"] == "eligible"
            # A drain ends with the node ineligible. Setting it earlier would cancel the drain.
            if verdicts[node_id].eligible != is_eligible and not node["Drain"]:
                await self._set(node_id, node, eligible=verdicts[node_id].eligible)

    def _silent_agents(self, known: Mapping[UUID, Any]) -> set[UUID]:
        """Return the nodes whose agents were silent for long while agents of others reported."""
        reports = [row["reported_at"] for row in known.values() if row["reported_at"]]
        if not reports:
            return set()
        newest = max(reports)
        longest_gap = self._agent_silence / 2
        # A gap in all reports means that the service was away. The first reports after it are only
        # on their way, so nobody is judged by them.
        if newest - self._newest_report > longest_gap:
            self._reported_since = newest
        self._newest_report = newest
        [now, *_] = (row["now"] for row in known.values())
        self.reports_come_since = now if now - newest > longest_gap else self._reported_since
        since = newest - self._agent_silence
        if self._reported_since > since:
            return set()
        # A node that has just joined again gets time to report.
        return {node_id for node_id, row in known.items() if row["last_report_at"] < since}

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
    # A client that has just started has not checked Docker yet, and lists no driver.
    if driver and not driver.get("Healthy"):
        # Its agent may be silent too, because it waits for Docker. So Docker is the reason given.
        return _Verdict(eligible=known["usable"], alive=False, trouble=_DOCKER_AWAY)
    if agent_is_silent and known["usable"]:
        return _Verdict(eligible=False, alive=False, trouble=_AGENT_SILENT)
    return _Verdict(eligible=known["usable"], alive=True, trouble=None)
