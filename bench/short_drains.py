"""Drains of short jobs on a real node: rate, delay within a slot, and CPU time of each part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

from bench.load import UnexpectedAnswerError
from bench.node_stack import NodeStack
from bench.short_jobs import OWN, Run, gaps_in_slots, middle, read_own
from bench.simulation.cpu import cpu_seconds, used

SLOTS = {"LERULI_QUEUE_SLOT_MAX_S": "60"}
"""Settings of the stack under which slots run further attempts."""
AGENT = "node agent"
CONTROL_PLANE = ("service", "dispatcher", "PostgreSQL", "Nomad server", "Nomad client")
_IDLE_S = 3.0
_READERS = 4
_SLOT_OF = """
SELECT job_id::text, coalesce(slot_job, job_id)::text AS slot, outcome, uploaded_files
FROM attempts WHERE job_id = ANY($1::uuid[]) AND outcome = 'ended'
"""


@dataclass(frozen=True)
class Kind:
    """A kind of job, and how it is run."""

    files: Callable[[str], dict[str, str]]
    image: str
    memory_mb: int
    shares: bool
    jobs: int


@dataclass
class Drains:
    """What was measured of one kind, a value per turn."""

    kind: Kind
    rates: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    cpu_ms: list[Mapping[str, float]] = field(default_factory=list)

    def part(self, *names: str) -> list[float]:
        """Return the CPU time of some parts in ms per job."""
        return [sum(cpu[name] for name in names) for cpu in self.cpu_ms]

    @property
    def note(self) -> str:
        """The median of each part."""
        parts = (f"{name} {median(self.part(name)):.1f}" for name in self.cpu_ms[0])
        return f"ms of CPU a job: {', '.join(parts)}"


def measure(stack: NodeStack, drains: Drains, limit_s: float) -> None:
    """Run the jobs once, check what they wrote, and add to the drains.

    Raises
    ------
    UnexpectedAnswerError
        If a bucket holds another job's output, or a job has no receipt with output.
    """
    kind = drains.kind

    def submit(buckets: Sequence[str]) -> list[str]:
        return stack.submit(buckets, image=kind.image, memory_mb=kind.memory_mb, shares=kind.shares)

    # Warm-up: the first jobs load the image and register the parent job.
    stack.wait_until_completed(submit(stack.make_buckets(kind.files, stack.slots)), limit_s)
    buckets = stack.make_buckets(kind.files, kind.jobs)
    before = _cpu(stack)
    time.sleep(_IDLE_S)
    between = _cpu(stack)
    began = time.time()
    ids = submit(buckets)
    ended = stack.wait_until_completed(ids, limit_s)
    wall_s = time.time() - began
    after = _cpu(stack)
    idle, busy = used(before, between), used(between, after)
    drains.rates.append(kind.jobs / (ended - began))
    drains.cpu_ms.append(
        {
            part: 1000 * max(0.0, busy[part] - idle[part] * wall_s / _IDLE_S) / kind.jobs
            for part in busy
        }
    )
    runs = _runs(stack, dict(zip(ids, buckets, strict=True)))
    gaps = gaps_in_slots(runs, _slots(stack, ids))
    drains.gaps_s.append(middle(gaps, "gap between two jobs of a slot"))


def _cpu(stack: NodeStack) -> dict[str, float]:
    """Return the CPU time of each part since its start, in s."""
    found = {name: cpu_seconds(pid) for name, pid in stack.process_ids.items()}
    found["Nomad client"] = cpu_seconds(stack.nomad_client_id())
    found[AGENT] = found.pop("node") - found["Nomad client"]
    return found


def _runs(stack: NodeStack, buckets: Mapping[str, str]) -> dict[str, Run]:
    """Read what each job wrote from its bucket."""
    store = stack.store()

    def read(job_id: str) -> Run:
        answer = store.get_object(buckets[job_id], OWN)
        try:
            return read_own(job_id, buckets[job_id], answer.data)
        finally:
            answer.close()
            answer.release_conn()

    with ThreadPoolExecutor(_READERS) as threads:
        return dict(zip(buckets, threads.map(read, buckets), strict=True))


def _slots(stack: NodeStack, ids: Sequence[str]) -> dict[str, str]:
    """Return the slot in which each job ran; each must have one receipt of an upload."""
    rows = stack.fetch(_SLOT_OF, ids)
    slots = {row["job_id"]: row["slot"] for row in rows if row["uploaded_files"]}
    if len(rows) != len(ids) or len(slots) != len(ids):
        raise UnexpectedAnswerError(
            f"{len(rows)} receipts, {len(slots)} of them with output, of {len(ids)} jobs."
        )
    return slots
