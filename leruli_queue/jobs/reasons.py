"""Why a job is where it is, in a sentence for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from leruli_queue.jobs.sizes import Size, one_fits
from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.store.locks import DISPATCHER_LOCK
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

# An active dispatcher notes itself every 5 s, and another takes over within 15.
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
    "troubled": ("is troubled (group-nodes says why)", "are troubled (group-nodes says why)"),
}
"""What is said of one machine and of several, by what keeps them from taking jobs."""


@dataclass(frozen=True)
class Unusable:
    """Nodes of one size that are there and cannot take jobs now."""

    # A key of _NOT_NOW.
    why: str
    cores: int
    memory_mb: int
    count: int


@dataclass(frozen=True)
class Capacity:
    """The sizes of a group's nodes, and whether its jobs are being dispatched to them."""

    # Of those that live and may start jobs.
    sizes: tuple[Size, ...]
    # Of those that are kept for a job that has waited long (leruli_queue.dispatch.reservations).
    kept: tuple[Size, ...] = ()
    unusable: tuple[Unusable, ...] = ()
    # The sentence for jobs that are not dispatched, whatever they ask for.
    not_dispatched: str | None = None
    # The name of one node of each size.
    names: Mapping[Size, str] = field(default_factory=dict)

    def one_is_large_enough(self, cores: int, memory_mb: int) -> bool:
        """Tell whether a job could run on any of them, kept for another or not."""
        return one_fits((*self.sizes, *self.kept), cores, memory_mb)

    def why_waiting(self, cores: int, memory_mb: int) -> str | None:
        """Return the sentence for a job that no node can be asked for now; None if one can."""
        if one_fits(self.sizes, cores, memory_mb):
            return None
        if one_fits(self.kept, cores, memory_mb):
            return (
                "waiting for its turn: what is large enough is kept for a job that needs much of a "
                "machine and has waited long"
            )
        return self._why_none_fits(cores, memory_mb)

    def warnings(self, cores: int, memory_mb: int) -> list[str]:
        """Return sentences about a job that is not submitted yet; empty if a node can hold it."""
        if self.one_is_large_enough(cores, memory_mb):
            return []
        would_be = self._why_none_fits(cores, memory_mb, names=self.names)
        return [f"No machine of the group can hold it now: it would be {would_be}"]

    def _why_none_fits(
        self, cores: int, memory_mb: int, *, names: Mapping[Size, str] | None = None
    ) -> str:
        """Say why every node is too small or unusable; the largest ones by name, where given."""
        every = [*self.sizes, *self.kept]
        if not every:
            if not self.unusable:
                return "waiting for a node: no machine of the group is connected"
            return f"waiting for a node: {_why_unusable(self.unusable, 'of the group')}"
        large = [
            node
            for node in self.unusable
            if one_fits([(node.cores, node.memory_mb)], cores, memory_mb)
        ]
        if large:
            wanted = f"waiting for a node with {_size(cores, memory_mb)}"
            return f"{wanted}: {_why_unusable(large, 'that large')}"
        most_cores, most_memory = max(every), max(every, key=lambda size: (size[1], size[0]))
        wanted = f"waiting for a node with {_size(cores, memory_mb)}"
        if most_cores == most_memory:
            return f"{wanted}; the largest{_called(most_cores, names)} has {_size(*most_cores)}"
        has = " has" if names else ""
        return (
            f"{wanted}; the one with most cores{_called(most_cores, names)} has "
            f"{_size(*most_cores)}, the one with most memory{_called(most_memory, names)}{has} "
            f"{_size(*most_memory)}"
        )


async def living_capacity(connection: Connection | Pool, group_id: int) -> Capacity:
    """Return what the group's nodes can take at most."""
    found = await rows(queries.living_capacity(connection, group_id=group_id))
    sizes: dict[bool, list[Size]] = {False: [], True: []}
    unusable = []
    names: dict[Size, str] = {}
    for row in found:
        if row["why"] is None:
            size = row["cores"], row["memory_mb"]
            sizes[row["reserved"]].append(size)
            names[size] = row["name"]
        else:
            unusable.append(Unusable(row["why"], row["cores"], row["memory_mb"], row["nodes"]))
    dispatching = await queries.dispatching_of_group(
        connection, group_id=group_id, silence_s=_DISPATCHER_SILENT_S, lock=DISPATCHER_LOCK
    )
    return Capacity(
        tuple(sizes[False]),
        tuple(sizes[True]),
        tuple(unusable),
        _why_not_dispatched(dispatching),
        names,
    )


def asks_for_capacity(jobs: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether what there is to say of one of these jobs depends on the group's nodes."""
    return any(
        job["state"] == JobState.RECEIVED or job["silent"] or _is_unplaced(job) for job in jobs
    )


def reason_of(job: Mapping[str, Any], capacity: Capacity | None) -> str | None:
    """Return the sentence where the state does not say it all.

    Parameters
    ----------
    job
        A row with state, reason, cancel_requested_at, cores, memory_mb, waiting_reason, started
        and silent.
    capacity
        Of the group's nodes; None where :func:`asks_for_capacity` has no need of it.
    """
    state = JobState(job["state"])
    if job["cancel_requested_at"] is not None and state not in FINAL:
        return "cancellation was requested; it is being stopped"
    if capacity is not None and (state is JobState.RECEIVED or _is_unplaced(job)):
        if capacity.not_dispatched:
            return capacity.not_dispatched
        # Of a dispatched job Nomad says more, unless it is about to be taken back.
        if state is JobState.RECEIVED or not (capacity.sizes or capacity.kept):
            why = capacity.why_waiting(job["cores"], job["memory_mb"])
            if why:
                return why
    if (
        job["silent"]
        and capacity is not None
        # As overdue_attempts looks at it: docs/developers/attempts.md.
        and not capacity.one_is_large_enough(job["cores"], job["memory_mb"])
    ):
        return _CUT_OFF
    if state is JobState.SUBMITTED and job["waiting_reason"]:
        return f"{job['waiting_reason']}; it needs {_size(job['cores'], job['memory_mb'])}"
    return None if job["reason"] is None else str(job["reason"])


def _is_unplaced(job: Mapping[str, Any]) -> bool:
    return job["state"] == JobState.SUBMITTED and not job["started"]


def _why_not_dispatched(dispatching: Mapping[str, Any]) -> str | None:
    """Return the sentence for a group whose jobs nobody dispatches; None where somebody does."""
    if dispatching["absent"]:
        seen_at = dispatching["seen_at"]
        since = "" if seen_at is None else f" since {_time(seen_at)}"
        return (
            f"not dispatched: the service's dispatcher has not been there{since}; whoever runs the "
            "service has to start it (leruli-queue dispatch)"
        )
    if dispatching["nomad_away_since"] is not None:
        return (
            "not dispatched: the service cannot use its cluster manager (Nomad) since "
            f"{_time(dispatching['nomad_away_since'])}; it goes on by itself when it can, and the "
            "dispatcher's log says why"
        )
    return None


def _why_unusable(nodes: Iterable[Unusable], which: str) -> str:
    """Say of nodes, by kind, why they take no jobs."""
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
    """Return the sentence for a job that nothing but its turn keeps waiting.

    Parameters
    ----------
    ahead
        How many jobs of the same user go before it, counted a little further than to ``most``.
    """
    if ahead > most:
        many = f"more than {most:,} jobs of the same user go"
    elif ahead:
        many = f"{ahead:,} jobs of the same user go" if ahead > 1 else "1 job of the same user goes"
    else:
        return "waiting for its turn: it is the next of its user"
    return f"waiting for its turn: {many} first"


def _called(size: Size, names: Mapping[Size, str] | None) -> str:
    return f", {names[size]}," if names else ""


def _size(cores: int, memory_mb: int) -> str:
    return f"{cores} core{'' if cores == 1 else 's'} and {memory_mb} MB"
