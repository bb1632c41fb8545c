"""Checks of a run with enemies, beside those in checks.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from soak.memory import Peak

# Limits: of the agent above its memory at rest, and of service and dispatcher in total.
AGENT_ABOVE_REST_MB = 200.0
SERVICE_MB = {"service": 512.0, "dispatcher": 512.0}
# Tolerance by which the enemies' part in flight may exceed their share.
TOLERANCE = 0.15
# Most attempts on a node that fails everything.
MOST_BROKEN_ATTEMPTS = 40
_MOST = 5


@dataclass
class HostileEvidence:
    """Evidence about the enemies and about everything that they must not touch."""

    canaries_before: dict[str, str]
    canaries_after: dict[str, str]
    memory: dict[str, Peak]
    # Seconds that jobs were in flight, from claim to receipt, while honest jobs were queued. Turns
    # count jobs in flight, so a user of long jobs gets more of the slots' time.
    honest_in_flight_s: float
    hostile_in_flight_s: float
    honest_users: int
    hostile_users: int
    # Sentences about hostile jobs that have not ended.
    open_jobs: list[str] = field(default_factory=list)
    # Attempts on the node that fails everything.
    broken_node_attempts: int = 0


def nobody_elses_bucket_changed(evidence: HostileEvidence) -> Iterator[str]:
    """Objects of other users are unchanged, and no object was added."""
    before, after = evidence.canaries_before, evidence.canaries_after
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"the foreign object {name} is gone"
        elif name not in before:
            yield f"{name} was written into another user's bucket"
        elif before[name] != after[name]:
            yield f"the foreign object {name} was overwritten"


def memory_is_bounded(evidence: HostileEvidence) -> Iterator[str]:
    """The agent's memory stays near that at rest, service and dispatcher below a fixed limit."""
    for part, peak in evidence.memory.items():
        limit = SERVICE_MB.get(part, peak.rest_mb + AGENT_ABOVE_REST_MB)
        if peak.most_mb > limit:
            yield f"{part} used {peak.most_mb:.0f} MB, more than {limit:.0f} MB"


def enemies_had_their_share(evidence: HostileEvidence) -> Iterator[str]:
    """Users take turns: while honest jobs are queued, the enemies get only their share."""
    both = evidence.honest_in_flight_s + evidence.hostile_in_flight_s
    share = evidence.hostile_in_flight_s / both if both else 0.0
    fair = evidence.hostile_users / (evidence.honest_users + evidence.hostile_users)
    if share > fair + TOLERANCE:
        yield f"the enemies had {share:.0%} of all jobs in flight; their share is {fair:.0%}"


def hostile_jobs_ended(evidence: HostileEvidence) -> Iterator[str]:
    """No hostile job keeps a slot."""
    yield from evidence.open_jobs


def a_broken_node_costs_little(evidence: HostileEvidence) -> Iterator[str]:
    """A node that fails everything gets no more attempts after some failures."""
    if evidence.broken_node_attempts > MOST_BROKEN_ATTEMPTS:
        yield f"the node that fails everything had {evidence.broken_node_attempts} attempts"


CHECKS: tuple[Callable[[HostileEvidence], Iterator[str]], ...] = (
    nobody_elses_bucket_changed,
    memory_is_bounded,
    enemies_had_their_share,
    hostile_jobs_ended,
    a_broken_node_costs_little,
)


def findings(evidence: HostileEvidence, seed: int) -> list[str]:
    """Return the sentences of all checks."""
    return [
        f"seed {seed}: {sentence}"
        for check in CHECKS
        for sentence in islice(check(evidence), _MOST)
    ]
