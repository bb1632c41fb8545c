"""Claim jobs of the backlog: each claim is an attempt in PostgreSQL that Nomad must hear of.

A claim is committed before its dispatch. So a crash in between leaves an attempt without a child
job, which :meth:`Claims.undispatched` returns again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from uuid import UUID

import structlog

from leruli_queue.dispatch.choosing import choose_nodes, may_choose
from leruli_queue.dispatch.leadership import Leadership
from leruli_queue.dispatch.load import Load, loads_by_group
from leruli_queue.dispatch.nodes import GroupNodes
from leruli_queue.dispatch.setbacks import Setbacks
from leruli_queue.dispatch.window import Window
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.retries import Retries
from leruli_queue.nomad.templates import ParentSpec
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

MOST_COMBINATIONS = 100
"""Combinations of cores and memory examined per user and poll. Each costs as much as some jobs."""


@dataclass(frozen=True)
class Claim:
    """An attempt that must be dispatched to Nomad."""

    attempt: AttemptId
    spec: ParentSpec
    nodes: GroupNodes
    # An earlier call for it may have reached Nomad, or may still be in progress there.
    repeated: bool


class Claims:
    """Claims jobs of the groups of one cluster.

    Every method takes the usable nodes by group id, and the ids of the groups that are paused after
    a failure.
    """

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        leadership: Leadership,
        cluster: str,
        setbacks: Setbacks,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._leadership = leadership
        self._cluster = cluster
        # By group id.
        self._setbacks = setbacks
        self._windows: defaultdict[int, Window] = defaultdict(
            lambda: Window(settings.window_min, settings.window_max)
        )
        self._polls = 0

    async def undispatched(
        self, nodes: dict[int, GroupNodes], paused: Collection[Hashable]
    ) -> list[Claim]:
        """Return attempts that were claimed earlier and have no committed answer of Nomad."""
        found = await rows(
            queries.undispatched_attempts(
                self._pool,
                cluster=self._cluster,
                paused_groups=list(paused),
                limit=self._settings.window_max,
            )
        )
        choices = await choose_nodes(self._pool, self._cluster, found, nodes)
        claims: list[Claim] = []
        stale: defaultdict[int, list[AttemptId]] = defaultdict(list)
        for row in found:
            attempt = AttemptId(row["job_id"], row["number"])
            choice = choices.get(attempt)
            chosen = choice and choice.of_set(row["node_set"])
            if chosen:
                claims.append(_claim(row, chosen, repeated=True))
            elif not row["started"]:
                stale[row["group_id"]].append(attempt)
            elif choice:
                claims.append(_claim(row, choice.usual, repeated=True))
        # Nomad may or may not have these, for nodes that are gone: requeue their jobs. The service
        # refuses to start such an attempt, and the reconciler removes the child job if there is
        # one.
        for group_id, attempts in stale.items():
            await self._requeue(group_id, attempts)
        return claims

    async def probes(
        self, nodes: dict[int, GroupNodes], paused: Collection[Hashable]
    ) -> list[Claim]:
        """Claim a job for each quarantined node that is due for a probe."""
        if not any(node.held for group in nodes.values() for node in group.nodes):
            return []
        claims = []
        for row in await rows(queries.nodes_to_probe(self._pool, cluster=self._cluster)):
            group = nodes.get(row["group_id"])
            probed = group.only(row["id"]) if group else None
            if probed is None or row["group_id"] in paused:
                continue
            with self._setbacks.isolate(row["group_id"], "probing"):
                async with self._leadership.connection() as connection:
                    found = await queries.claim_probe(
                        connection,
                        node_id=row["id"],
                        cluster=self._cluster,
                        node_set=probed.digest,
                        pause_s=self._settings.node_probe_s,
                    )
                if found:
                    log.info("node is probed", node=str(row["id"]), job=str(found["job_id"]))
                    claims.append(_claim(found, probed, repeated=False))
        return claims

    async def backlog(
        self, nodes: dict[int, GroupNodes], paused: Collection[Hashable]
    ) -> list[Claim]:
        """Claim jobs for each group that has nodes and a backlog; groups share the room equally."""
        groups = [
            nodes[row["id"]]
            for row in await rows(queries.groups_with_backlog(self._pool, cluster=self._cluster))
            if row["id"] in nodes and nodes[row["id"]].node_ids and row["id"] not in paused
        ]
        if not groups:
            return []
        loads = await loads_by_group(self._pool, self._cluster)
        room = self._settings.window_max - sum(load.unplaced for load in loads.values())
        # Split the room evenly. What one group does not use goes to the next. The starting group
        # rotates.
        self._polls += 1
        first = self._polls % len(groups)
        claims: list[list[Claim]] = []
        for position, group in enumerate([*groups[first:], *groups[:first]]):
            part = math.ceil(room / (len(groups) - position))
            with self._setbacks.isolate(group.group_id, "claiming"):
                claims.append(await self._claim_for(group, loads[group.group_id], part))
                room -= len(claims[-1])
        return _interleave(claims)

    async def _requeue(self, group_id: int, stale: Iterable[AttemptId]) -> None:
        abandoned = [
            Abandonment.of_unstarted(attempt, "the nodes of the group changed") for attempt in stale
        ]
        with self._setbacks.isolate(group_id, "requeuing"):
            await abandon(self._pool, abandoned, Retries.of(self._settings))

    async def _claim_for(self, nodes: GroupNodes, load: Load, room: int) -> list[Claim]:
        """Claim what fits the window of a group, and what is free on its nodes.

        Parameters
        ----------
        room
            How many more attempts of the group may be unplaced in Nomad. Below 1 the group still
            gets its smallest window.
        """
        window = self._windows[nodes.group_id]
        size = window.size(load.unplaced)
        by_resources = load.unplaced_by_resources
        full = [resources for resources, count in by_resources.items() if count >= size]
        fullest = max((count for count in by_resources.values() if count < size), default=0)
        # A group always gets its smallest window, however many attempts of all groups are unplaced.
        limit = min(size - fullest, max(room, self._settings.window_min - load.unplaced))
        # Free nodes take these at once, so the rate of earlier placements does not matter.
        free_cores, free_memory_mb = load.free(nodes) if room > 0 else (0, 0)
        at_most = max(limit, room if free_cores else 0)
        if at_most <= 0:
            return []
        async with self._leadership.connection() as connection, connection.transaction():
            found = await rows(
                queries.claim_jobs(
                    connection,
                    group_id=nodes.group_id,
                    cluster=self._cluster,
                    node_set=nodes.digest,
                    full_cores=[cores for cores, _ in full],
                    full_memories=[memory_mb for _, memory_mb in full],
                    limit=limit,
                    at_most=at_most,
                    free_cores=free_cores,
                    free_memory_mb=free_memory_mb,
                    memory_steps=list(nodes.memory_steps),
                    most_combinations=MOST_COMBINATIONS,
                )
            )
            chosen = await self._avoid_failed_nodes(connection, found, nodes)
        window.dispatched(len(found))
        return [_claim(row, chosen.get(row["job_id"], nodes), repeated=False) for row in found]

    async def _avoid_failed_nodes(
        self, connection: Connection, claimed: Sequence[Any], nodes: GroupNodes
    ) -> dict[UUID, GroupNodes]:
        """Return, by job id, the nodes of jobs that must avoid the nodes which failed them."""
        again = [{**row, "group_id": nodes.group_id} for row in claimed if row["number"] > 1]
        if not again or not await may_choose(connection, nodes.group_id):
            return {}
        choices = await choose_nodes(connection, self._cluster, again, {nodes.group_id: nodes})
        subsets = {
            attempt: choice.chosen for attempt, choice in choices.items() if choice.chosen.is_subset
        }
        await queries.set_node_sets(
            connection,
            job_ids=[attempt.job_id for attempt in subsets],
            numbers=[attempt.number for attempt in subsets],
            node_sets=[chosen.digest for chosen in subsets.values()],
        )
        return {attempt.job_id: chosen for attempt, chosen in subsets.items()}


def _interleave(by_group: Iterable[Sequence[Claim]]) -> list[Claim]:
    """Return the claims of several groups as one list in which the groups take turns."""
    return [claim for turn in zip_longest(*by_group) for claim in turn if claim]


def _claim(row: Any, nodes: GroupNodes, *, repeated: bool) -> Claim:
    return Claim(
        AttemptId(row["job_id"], row["number"]),
        ParentSpec.of(
            nodes.group_key_id, nodes.hiding_key, row, nodes.digest if nodes.is_subset else None
        ),
        nodes,
        repeated,
    )
