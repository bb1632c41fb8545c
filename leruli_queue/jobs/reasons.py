"""Reasons: why a job is in its state, in a sentence for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from leruli_queue.jobs.resources import Resources, any_fits
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.store.locks import DISPATCHER_LOCK
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

# An active dispatcher writes its heartbeat every 5 s, and another takes over within 15 s.
_DISPATCHER_SILENT_S = 20.0
_CUT_OFF = (
    "its node does not answer, and no other machine that is connected could run it: it goes on "
    "when its node is back, or runs again when an admin removes the node or another machine joins"
)


_NOT_NOW = {
    "outdated": ("needs the new compute secret", "need the new compute secret"),
    "moved": (
        "has to be started again for the group's new cluster",
        "have to be started again for the group's new cluster",
    ),
    "drained": ("was taken out of service by an admin", "were taken out of service by an admin"),
    "troubled": (
        "is troubled (leruli group nodes says why)",
        "are troubled (leruli group nodes says why)",
    ),
}
"""Sentences for one machine and for several, by the cause that keeps them from taking jobs."""


@dataclass(frozen=True)
class Unusable:
    """Nodes with equal resources that are connected and cannot take jobs now."""

    # A key of _NOT_NOW.
    why: str
    cores: int
    memory_mb: int
    count: int


@dataclass(frozen=True)
class Capacity:
    """Resources of a group's nodes, and whether its jobs are dispatched to them."""

    # Nodes that are alive and may start jobs.
    free: tuple[Resources, ...]
    # Nodes reserved for a job that was unplaced for long (leruli_queue.dispatch.reservations).
    reserved: tuple[Resources, ...] = ()
    unusable: tuple[Unusable, ...] = ()
    # The sentence if no job is dispatched, whatever its resources.
    not_dispatched: str | None = None
    # The name of one node for each of the resources.
    names: Mapping[Resources, str] = field(default_factory=dict)

    def one_is_large_enough(self, cores: int, memory_mb: int) -> bool:
        """Tell whether a job could run on one of the nodes, reserved or not."""
        return any_fits((*self.free, *self.reserved), cores, memory_mb)

    def why_queued(self, cores: int, memory_mb: int) -> str | None:
        """Return the sentence for a job that no free node is large enough for, else None."""
        if any_fits(self.free, cores, memory_mb):
            return None
        if any_fits(self.reserved, cores, memory_mb):
            return (
                "waiting for its turn: each machine that is large enough is reserved for a large "
                "job that has waited long"
            )
        return self._why_none_fits(cores, memory_mb)

    def warnings(self, cores: int, memory_mb: int) -> list[str]:
        """Return warnings for a job that is not submitted yet; none if it fits a node."""
        if self.one_is_large_enough(cores, memory_mb):
            return []
        would_be = self._why_none_fits(cores, memory_mb, names=self.names)
        return [f"No machine of the group can hold it now: it would be {would_be}"]

    def retry_warnings(self, cores: int, memory_mb: int) -> list[str]:
        """Return warnings for the retry of a job that gets the most memory."""
        if self.one_is_large_enough(cores, memory_mb):
            return []
        would_be = self._why_none_fits(cores, memory_mb, names=self.names)
        return [
            f"No machine of the group can hold a retry with {memory_mb} MB now: it would be "
            f"{would_be}"
        ]

    def _why_none_fits(
        self, cores: int, memory_mb: int, *, names: Mapping[Resources, str] | None = None
    ) -> str:
        """Say why every node is too small or unusable. With ``names``, name the largest ones."""
        every = [*self.free, *self.reserved]
        if not every:
            if not self.unusable:
                return "waiting for a node: no machine of the group is connected"
            return f"waiting for a node: {_why_unusable(self.unusable, 'of the group')}"
        large = [
            node
            for node in self.unusable
            if any_fits([(node.cores, node.memory_mb)], cores, memory_mb)
        ]
        if large:
            why = _why_unusable(large, "that large")
            return f"waiting for a node with {_text(cores, memory_mb)}: {why}"
        most_cores, most_memory = max(every), max(every, key=lambda node: (node[1], node[0]))
        if most_cores == most_memory:
            return (
                f"waiting for a node with {_text(cores, memory_mb)}; the largest"
                f"{_called(most_cores, names)} has {_text(*most_cores)}"
            )
        has = " has" if names else ""
        return (
            f"waiting for a node with {_text(cores, memory_mb)}; the one with most cores"
            f"{_called(most_cores, names)} has {_text(*most_cores)}, the one with most memory"
            f"{_called(most_memory, names)}{has} {_text(*most_memory)}"
        )


async def living_capacity(connection: Connection | Pool, group_id: int) -> Capacity:
    """Return the resources of the group's nodes that are alive."""
    found = await rows(queries.living_capacity(connection, group_id=group_id))
    by_reserved: dict[bool, list[Resources]] = {False: [], True: []}
    unusable = []
    names: dict[Resources, str] = {}
    for row in found:
        if row["why"] is None:
            resources = row["cores"], row["memory_mb"]
            by_reserved[row["reserved"]].append(resources)
            names[resources] = row["name"]
        else:
            unusable.append(Unusable(row["why"], row["cores"], row["memory_mb"], row["nodes"]))
    dispatching = await queries.dispatching_of_group(
        connection, group_id=group_id, silence_s=_DISPATCHER_SILENT_S, lock=DISPATCHER_LOCK
    )
    return Capacity(
        tuple(by_reserved[False]),
        tuple(by_reserved[True]),
        tuple(unusable),
        _why_not_dispatched(dispatching),
        names,
    )


def asks_for_capacity(jobs: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether the reason of one of these jobs depends on the group's nodes."""
    return any(
        job["state"] == JobState.RECEIVED or job["silent"] or _is_unplaced(job) for job in jobs
    )


def reason_of(job: Mapping[str, Any], capacity: Capacity | None) -> str | None:
    """Return the reason of a job's state, or None if the state needs none.

    A job that its retry rule put back has the reason of the retry first, until it is over.

    Parameters
    ----------
    job
        A row with state, reason, retry_reason, cancel_requested_at, cores, memory_mb,
        waiting_reason, started and silent.
    capacity
        None if :func:`asks_for_capacity` answered False for the job.
    """
    reason, retry = _reason_now(job, capacity), job["retry_reason"]
    is_ending = job["state"] in FINAL or job["cancel_requested_at"] is not None
    if retry is None or reason == retry or is_ending:
        return reason
    return str(retry) if reason is None else f"{retry}; {reason}"


def _reason_now(job: Mapping[str, Any], capacity: Capacity | None) -> str | None:
    state = JobState(job["state"])
    if job["cancel_requested_at"] is not None and state not in FINAL:
        return "cancellation was requested; it is being stopped"
    if capacity is not None and (state is JobState.RECEIVED or _is_unplaced(job)):
        if capacity.not_dispatched:
            return capacity.not_dispatched
        # Nomad's own reason for a dispatched job is better. But without any node the attempt is
        # about to be abandoned.
        if state is JobState.RECEIVED or not (capacity.free or capacity.reserved):
            why = capacity.why_queued(job["cores"], job["memory_mb"])
            if why:
                return why
    if (
        job["silent"]
        and capacity is not None
        # The same condition as in overdue_attempts: docs/developers/attempts.md.
        and not capacity.one_is_large_enough(job["cores"], job["memory_mb"])
    ):
        return _CUT_OFF
    if state is JobState.SUBMITTED and job["waiting_reason"]:
        return f"{job['waiting_reason']}; it needs {_text(job['cores'], job['memory_mb'])}"
    return None if job["reason"] is None else str(job["reason"])


def _is_unplaced(job: Mapping[str, Any]) -> bool:
    return job["state"] == JobState.SUBMITTED and not job["started"]


def _why_not_dispatched(dispatching: Mapping[str, Any]) -> str | None:
    """Return the sentence for a group whose jobs no dispatcher dispatches, else None."""
    if dispatching["absent"]:
        seen_at = dispatching["seen_at"]
        since = "" if seen_at is None else f" since {_time(seen_at)}"
        return (
            f"not dispatched: the service's dispatcher has not run{since}; the operator of the "
            "service has to start it (leruli-queue dispatch)"
        )
    if dispatching["nomad_away_since"] is not None:
        return (
            "not dispatched: the service has not been able to use its cluster manager (Nomad) "
            f"since {_time(dispatching['nomad_away_since'])}; it goes on by itself once it can, "
            "and the dispatcher's log says why"
        )
    return None


def _why_unusable(nodes: Iterable[Unusable], which: str) -> str:
    """Say why these nodes take no jobs, counted by cause."""
    counts = Counter[str]()
    for node in nodes:
        counts[node.why] += node.count
    if counts.total() == 1:
        [why] = counts
        return f"the only machine {which} {_NOT_NOW[why][0]}"
    if len(counts) == 1:
        [(why, count)] = counts.items()
        return f"all {count} machines {which} {_NOT_NOW[why][1]}"
    parts = [f"{counts[why]} {_NOT_NOW[why][counts[why] > 1]}" for why in _NOT_NOW if counts[why]]
    return f"of {counts.total()} machines {which} {', '.join(parts[:-1])} and {parts[-1]}"


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def turn_reason(ahead: int, *, most: int) -> str:
    """Return the sentence for a job that only waits for its turn.

    Parameters
    ----------
    ahead
        Number of jobs of the same user that go first. A number above ``most`` means "more".
    """
    if ahead > most:
        many = f"more than {most:,} jobs of the same user go"
    elif ahead:
        many = f"{ahead:,} jobs of the same user go" if ahead > 1 else "1 job of the same user goes"
    else:
        return "waiting for its turn: it is the next job of its user"
    return f"waiting for its turn: {many} first"


def _called(node: Resources, names: Mapping[Resources, str] | None) -> str:
    return f", {names[node]}," if names else ""


def _text(cores: int, memory_mb: int) -> str:
    return f"{cores} core{'' if cores == 1 else 's'} and {memory_mb} MB"
