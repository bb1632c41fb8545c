"""Why a job is where it is, in a sentence for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leruli_queue.jobs.states import FINAL, JobState
from leruli_queue.nodes.sizes import Size, one_fits
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows

_CUT_OFF = (
    "its node does not answer, and no other machine that is connected could run it: it goes on "
    "when its node is back, or runs again when an admin removes the node or another machine joins"
)


@dataclass(frozen=True)
class Capacity:
    """The sizes of a group's living nodes."""

    sizes: tuple[Size, ...]
    # Of those that are kept for a job that has waited long (leruli_queue.dispatch.reservations).
    kept: tuple[Size, ...] = ()

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
        every = [*self.sizes, *self.kept]
        if not every:
            return "waiting for a node: no machine of the group is connected"
        most_cores, most_memory = max(every), max(every, key=lambda size: (size[1], size[0]))
        wanted = f"waiting for a node with {_size(cores, memory_mb)}"
        if most_cores == most_memory:
            return f"{wanted}; the largest has {_size(*most_cores)}"
        return (
            f"{wanted}; the one with most cores has {_size(*most_cores)}, "
            f"the one with most memory {_size(*most_memory)}"
        )


async def living_capacity(connection: Connection | Pool, group_id: int) -> Capacity:
    """Return what the group's nodes can take at most."""
    found = await rows(queries.living_capacity(connection, group_id=group_id))
    sizes: dict[bool, list[Size]] = {False: [], True: []}
    for row in found:
        sizes[row["reserved"]].append((row["cores"], row["memory_mb"]))
    return Capacity(tuple(sizes[False]), tuple(sizes[True]))


def asks_for_capacity(jobs: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether what there is to say of one of these jobs depends on the group's nodes."""
    return any(job["state"] == JobState.RECEIVED or job["silent"] for job in jobs)


def reason_of(job: Mapping[str, Any], capacity: Capacity | None) -> str | None:
    """Return the sentence where the state does not say it all.

    Parameters
    ----------
    job
        A row with state, reason, cancel_requested_at, cores, memory_mb, waiting_reason and silent.
    capacity
        Of the group's nodes; None where :func:`asks_for_capacity` has no need of it.
    """
    state = JobState(job["state"])
    if job["cancel_requested_at"] is not None and state not in FINAL:
        return "cancellation was requested; it is being stopped"
    if state is JobState.RECEIVED and capacity is not None:
        why = capacity.why_waiting(job["cores"], job["memory_mb"])
        if why:
            return why
    if (
        job["silent"]
        and capacity is not None
        # As overdue_attempts looks at it: docs/attempts.md.
        and not capacity.one_is_large_enough(job["cores"], job["memory_mb"])
    ):
        return _CUT_OFF
    if state is JobState.SUBMITTED and job["waiting_reason"]:
        return f"{job['waiting_reason']}; it needs {_size(job['cores'], job['memory_mb'])}"
    return None if job["reason"] is None else str(job["reason"])


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


def _size(cores: int, memory_mb: int) -> str:
    return f"{cores} core{'' if cores == 1 else 's'} and {memory_mb} MB"
