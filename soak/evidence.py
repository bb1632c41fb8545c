"""All that can be known of a run when it is over, collected once, for the checks."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from minio import Minio

from leruli_queue.embedded.nomad_server import NAMESPACE
from leruli_queue.nomad.names import PARENT_PREFIX
from soak.calls import Line
from soak.killer import Kill
from soak.ledger import Ledger
from soak.plan import INPUT, Job
from soak.stack import SoakStack, User
from soak.witness import Containers

_THREADS = 4
_PAGE = 1000
# Where the agent moves what it is going to remove.
_TRASH = "jobs/.trash"

_JOBS = """
SELECT j.id::text, bucket, u.name AS user_name, state::text, reason, exit_code, attempt,
       lost_attempts, cores, start_key, ended_at
FROM jobs j JOIN users u ON u.id = j.user_id WHERE u.name <> ALL($1) ORDER BY j.id
"""
_OF_ENEMIES = """
SELECT j.id::text FROM jobs j JOIN users u ON u.id = j.user_id WHERE u.name = ANY($1)
"""
_ATTEMPTS = """
SELECT job_id::text, number, nomad_job_id, started_at, ended_at, outcome, exit_code, message,
       wall_s, uploaded_files, stop_requested_at, stopped_at
FROM attempts
WHERE job_id IN (SELECT j.id FROM jobs j JOIN users u ON u.id = j.user_id WHERE u.name <> ALL($1))
ORDER BY job_id, number
"""


@dataclass
class JobRow:
    """A job in the database."""

    id: str
    bucket: str
    user_name: str
    state: str
    reason: str | None
    exit_code: int | None
    attempt: int
    lost_attempts: int
    cores: int
    start_key: str | None
    ended_at: datetime | None


@dataclass
class AttemptRow:
    """An attempt in the database."""

    job_id: str
    number: int
    nomad_job_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    exit_code: int | None
    message: str | None
    wall_s: float | None
    uploaded_files: int | None
    stop_requested_at: datetime | None
    stopped_at: datetime | None

    @property
    def key(self) -> str:
        """How its containers are labelled."""
        return f"{self.job_id}x{self.number}"

    @property
    def was_taken_back(self) -> bool:
        """Whether it was given up or cancelled, whatever was heard of it later."""
        return self.stop_requested_at is not None


@dataclass
class Evidence:
    """What the submitters know, and what is there."""

    seed: int
    ids: dict[Job, str]
    told: dict[str, str]
    contradictions: list[str]
    cancelled: set[str]
    cancelled_by_admin: set[str]
    jobs: dict[str, JobRow]
    # By job, in the order of their numbers.
    attempts: dict[str, list[AttemptRow]]
    # What task-list told each user, what group-activity and group-usage told of the group.
    listed: dict[str, list[tuple[str, str]]]
    activity: list[tuple[str, str]]
    usage: dict[str, dict[str, float]]
    audited_cancellations: list[str]
    # The objects of each job that was started, its input left out.
    buckets: dict[str, dict[str, bytes]]
    containers: dict[str, Containers]
    kills: list[Kill] = field(default_factory=list)
    # What should be gone.
    alive_in_nomad: list[str] = field(default_factory=list)
    containers_left: list[str] = field(default_factory=list)
    left_on_node: list[str] = field(default_factory=list)


def collect(
    stack: SoakStack,
    line: Line,
    ledger: Ledger,
    users: Sequence[User],
    *,
    seed: int,
    containers: dict[str, Containers],
    kills: list[Kill],
    enemies: Sequence[str] = (),
) -> Evidence:
    """Collect everything but the jobs of `enemies`; nothing may be killed meanwhile."""
    jobs, attempts = asyncio.run(_rows(stack, enemies))
    hostile = asyncio.run(_ids_of(stack, enemies))
    activity = _pages(line, "group-activity", {"grouptoken": stack.kept.group_token})
    usage = _usage(line, stack.kept.group_token)
    started = {row.job_id for rows in attempts.values() for row in rows if row.started_at}
    buckets = {job_id: jobs[job_id].bucket for job_id in started if job_id in jobs}
    return Evidence(
        seed=seed,
        ids=ledger.known(),
        told={job_id: state for job_id, (state, _) in ledger.told.items()},
        contradictions=list(ledger.contradictions),
        cancelled=set(ledger.cancelled),
        cancelled_by_admin=set(ledger.cancelled_by_admin),
        jobs=jobs,
        attempts=attempts,
        listed={user.name: _pages(line, "task-list", {"secret": user.secret}) for user in users},
        activity=[entry for entry in activity if entry[0] not in hostile],
        usage={user: row for user, row in usage.items() if user not in enemies},
        audited_cancellations=_audit(line, stack.kept.admin_secret),
        buckets=_contents(stack, buckets),
        containers={
            key: seen for key, seen in containers.items() if key.partition("x")[0] not in hostile
        },
        kills=kills,
        alive_in_nomad=alive_in_nomad(stack),
        containers_left=containers_left(stack),
        left_on_node=left_on_node(stack),
    )


def alive_in_nomad(stack: SoakStack) -> list[str]:
    """Return the children and allocations that Nomad has not done with."""
    prefix = f"namespace={NAMESPACE}&prefix={PARENT_PREFIX}"
    children = [
        f"job {job['ID']} is {job['Status']}"
        for job in stack.nomad(f"/v1/jobs?{prefix}")
        if job.get("ParentID") and job["Status"] != "dead"
    ]
    allocations = [
        f"allocation {allocation['ID']} of {allocation['JobID']} is {allocation['ClientStatus']}"
        for allocation in stack.nomad(f"/v1/allocations?namespace={NAMESPACE}")
        if allocation["ClientStatus"] in ("pending", "running", "unknown")
    ]
    return children + allocations


def containers_left(stack: SoakStack) -> list[str]:
    """Return the containers of the node, running or not."""
    label = f"label=leruli.node={stack.node_id}"
    listed = subprocess.run(
        ["docker", "ps", "-a", "--filter", label, "--format", '{{.Label "leruli.attempt"}}'],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def left_on_node(stack: SoakStack) -> list[str]:
    """Return what the node keeps of attempts: notes, receipts, folders, and what it is removing."""
    folders = (stack.folders.node / name for name in ("attempts", "receipts", "jobs", _TRASH))
    return [
        f"{path.parent.name}/{path.name}"
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path != stack.folders.node / _TRASH
    ]


async def _ids_of(stack: SoakStack, users: Sequence[str]) -> set[str]:
    return {row["id"] for row in await stack.fetch(_OF_ENEMIES, list(users))}


async def _rows(
    stack: SoakStack, enemies: Sequence[str]
) -> tuple[dict[str, JobRow], dict[str, list[AttemptRow]]]:
    jobs = {row["id"]: JobRow(**dict(row)) for row in await stack.fetch(_JOBS, list(enemies))}
    attempts: dict[str, list[AttemptRow]] = {}
    for row in await stack.fetch(_ATTEMPTS, list(enemies)):
        attempts.setdefault(row["job_id"], []).append(AttemptRow(**dict(row)))
    return jobs, attempts


def _pages(line: Line, path: str, body: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    after: str | None = None
    while True:
        page = line.post(path, body | {"limit": _PAGE} | ({"after": after} if after else {}))
        found += [(job["jobid"], job["state"]) for job in page["jobs"]]
        after = page["next"]
        if after is None:
            return found


def _usage(line: Line, group_token: str) -> dict[str, dict[str, float]]:
    answer = line.post("group-usage", {"grouptoken": group_token, "by": ["user"]})
    return {row["user"]: row for row in answer["rows"]}


def _audit(line: Line, admin_secret: str) -> list[str]:
    found: list[str] = []
    after: int | None = None
    while True:
        body = {"adminsecret": admin_secret, "action": "job-cancelled", "limit": _PAGE}
        page = line.post("group-audit", body | ({"after": after} if after else {}))
        found += [entry["subject"] for entry in page["entries"]]
        after = page["next"]
        if after is None:
            return found


def _contents(stack: SoakStack, buckets: dict[str, str]) -> dict[str, dict[str, bytes]]:
    """Read every object of these buckets, by the group's own key."""
    store = stack.store()

    def read(bucket: str) -> dict[str, bytes]:
        names = [item.object_name for item in store.list_objects(bucket, recursive=True)]
        return {name: _content(store, bucket, name) for name in names if name and name != INPUT}

    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(buckets, threads.map(read, buckets.values()), strict=True))


def _content(store: Minio, bucket: str, name: str) -> bytes:
    answer = store.get_object(bucket, name)
    try:
        return answer.data
    finally:
        answer.close()
        answer.release_conn()


def by_state(states: Iterable[str]) -> dict[str, int]:
    """Count states."""
    return dict(sorted(Counter(states).items()))


def gaps(ended: Iterable[datetime]) -> Iterator[float]:
    """Yield the seconds between one end and the next."""
    times = sorted(ended)
    for before, after in pairwise(times):
        yield (after - before).total_seconds()
