"""Evidence of a run that is over, collected once for the checks."""

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
# Metadata of an object: the attempt that wrote it.
_MARK = "x-amz-meta-leruli-attempt"
# Folders that stay: files that are being removed, and folders of shared containers.
_KEPT = ("jobs/.trash", "jobs/.shared")
_OF_ATTEMPTS = ("attempts", "receipts", "slots", "jobs", *_KEPT)

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
       wall_s, uploaded_files, stop_requested_at, stopped_at, slot_job::text
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
    # The job whose attempt was the first in its slot, if this is a further one.
    slot_job: str | None

    @property
    def key(self) -> str:
        """Label of its containers: <job id>x<number>."""
        return f"{self.job_id}x{self.number}"

    @property
    def stop_was_requested(self) -> bool:
        """Whether it was abandoned or cancelled, even if a receipt came later."""
        return self.stop_requested_at is not None


@dataclass
class Evidence:
    """Answers that the submitters got, and the state of every part."""

    seed: int
    ids: dict[Job, str]
    observed: dict[str, str]
    contradictions: list[str]
    cancelled: set[str]
    cancelled_by_admin: set[str]
    jobs: dict[str, JobRow]
    # By job id, in the order of their numbers.
    attempts: dict[str, list[AttemptRow]]
    # Answers of task-list (by user), group-activity and group-usage (by user).
    listed: dict[str, list[tuple[str, str]]]
    activity: list[tuple[str, str]]
    usage: dict[str, dict[str, float]]
    audited_cancellations: list[str]
    # Objects of each started job without its input, by job id and name.
    buckets: dict[str, dict[str, bytes]]
    # The attempts (<job id>x<number>) that wrote these objects, by their marks.
    writers: dict[str, set[str | None]]
    containers: dict[str, Containers]
    kills: list[Kill] = field(default_factory=list)
    # Things that should be gone.
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
    """Collect everything except the jobs of `enemies`; no part may be killed meanwhile."""
    jobs, attempts = asyncio.run(_rows(stack, enemies))
    hostile = asyncio.run(_ids_of(stack, enemies))
    activity = _pages(line, "group-activity", {"grouptoken": stack.state.group_token})
    usage = _usage(line, stack.state.group_token)
    started = {row.job_id for rows in attempts.values() for row in rows if row.started_at}
    contents, writers = _contents(
        stack, {job_id: jobs[job_id].bucket for job_id in started if job_id in jobs}
    )
    return Evidence(
        seed=seed,
        ids=ledger.known(),
        observed={job_id: state for job_id, (state, _) in ledger.observed.items()},
        contradictions=list(ledger.contradictions),
        cancelled=set(ledger.cancelled),
        cancelled_by_admin=set(ledger.cancelled_by_admin),
        jobs=jobs,
        attempts=attempts,
        listed={user.name: _pages(line, "task-list", {"secret": user.secret}) for user in users},
        activity=[entry for entry in activity if entry[0] not in hostile],
        usage={user: row for user, row in usage.items() if user not in enemies},
        audited_cancellations=_audit(line, stack.state.admin_secret),
        buckets=contents,
        writers=writers,
        containers={
            key: seen for key, seen in containers.items() if key.partition("x")[0] not in hostile
        },
        kills=kills,
        alive_in_nomad=alive_in_nomad(stack),
        containers_left=containers_left(stack),
        left_on_node=left_on_node(stack),
    )


def alive_in_nomad(stack: SoakStack) -> list[str]:
    """Return the child jobs and allocations that are not over in Nomad."""
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
    """Return what the node still has of attempts: files of state, receipts, slots, folders."""
    folders = (stack.folders.node / name for name in _OF_ATTEMPTS)
    return [
        f"{path.parent.name}/{path.name}"
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path not in [stack.folders.node / name for name in _KEPT]
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


def _contents(
    stack: SoakStack, buckets: dict[str, str]
) -> tuple[dict[str, dict[str, bytes]], dict[str, set[str | None]]]:
    """Read every object of these buckets with the group's key, and who wrote it."""
    store = stack.store()

    def read(bucket: str) -> dict[str, tuple[bytes, str | None]]:
        names = [item.object_name for item in store.list_objects(bucket, recursive=True)]
        return {name: _content(store, bucket, name) for name in names if name and name != INPUT}

    with ThreadPoolExecutor(_THREADS) as threads:
        objects = dict(zip(buckets, threads.map(read, buckets.values()), strict=True))
    contents = {
        job_id: {name: content for name, (content, _) in found.items()}
        for job_id, found in objects.items()
    }
    writers = {job_id: {mark for _, mark in found.values()} for job_id, found in objects.items()}
    return contents, writers


def _content(store: Minio, bucket: str, name: str) -> tuple[bytes, str | None]:
    """Return an object, and the attempt that wrote it."""
    answer = store.get_object(bucket, name)
    try:
        return answer.data, answer.headers.get(_MARK)
    finally:
        answer.close()
        answer.release_conn()


def by_state(states: Iterable[str]) -> dict[str, int]:
    """Return the number of jobs by state."""
    return dict(sorted(Counter(states).items()))


def gaps(ended: Iterable[datetime]) -> Iterator[float]:
    """Yield the seconds between each end and the next."""
    times = sorted(ended)
    for before, after in pairwise(times):
        yield (after - before).total_seconds()
