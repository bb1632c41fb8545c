"""Two groups with two nodes each, and every call that moves a job, for calls in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
from service_world import GroupOfTest, claim_jobs, hear, make_group, make_node_with_token

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.abandon import Abandonment, abandon
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.jobs.retries import Retries
from leruli_queue.nodes.administer import NamedNode, give_jobs_again
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries

ANSWERS = frozenset({200, 403, 404, 409, 412, 422})
OUTCOMES = (
    *("ended", "ended", "ended", "time_limit", "out_of_memory", "image_unknown", "image_broken"),
    *("input_broken", "upload_failed", "stopped", "node_trouble"),
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One call. Its numbers are taken modulo the number of users, nodes, jobs and so on."""

    kind: str
    group: int
    node: int
    job: int
    attempt: int  # from the current one
    which: int  # of a few: start key, outcome, user, loss


@dataclass(frozen=True)
class Member:
    """A node of a group and its token."""

    node: Node
    token: str


@dataclass(frozen=True)
class Snapshot:
    """All rows of the two groups at one time."""

    jobs: Mapping[UUID, Row]
    attempts: Mapping[tuple[UUID, int], Row]
    nodes: Mapping[UUID, Row]

    def of_group(self, group_id: int) -> tuple[list[Row], list[Row], list[Row]]:
        jobs = [row for row in self.jobs.values() if row["group_id"] == group_id]
        ids = {row["id"] for row in jobs}
        attempts = [row for row in self.attempts.values() if row["job_id"] in ids]
        nodes = [row for row in self.nodes.values() if row["group_id"] == group_id]
        return jobs, attempts, nodes


@dataclass
class World:
    """The inputs of the calls, and the answers that must stay valid."""

    pool: Pool
    service: httpx.AsyncClient
    settings: Settings
    groups: list[GroupOfTest]
    nodes: list[list[Member]]
    jobs: list[list[UUID]]
    # The node and the start key that got the start grant of an attempt.
    started: dict[tuple[UUID, int], set[tuple[UUID, str]]]
    # Accepted receipts by attempt.
    receipts: dict[tuple[UUID, int], list[dict[str, Any]]]

    @classmethod
    async def make(cls, pool: Pool, service: httpx.AsyncClient, settings: Settings) -> World:
        groups, nodes = [], []
        for _ in range(2):
            group = await make_group(pool, str(uuid4()))
            members = [Member(*await make_node_with_token(pool, group)) for _ in range(2)]
            for member in members:
                await hear(pool, member.node)
            groups.append(group)
            nodes.append(members)
        return cls(pool, service, settings, groups, nodes, [[], []], {}, {})

    async def snapshot(self) -> Snapshot:
        ids = [group.id for group in self.groups]
        jobs = await self.pool.fetch("SELECT * FROM jobs WHERE group_id = ANY($1) ORDER BY id", ids)
        attempts = await self.pool.fetch(
            "SELECT a.* FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.group_id = ANY($1) "
            "ORDER BY a.job_id, a.number",
            ids,
        )
        nodes = await self.pool.fetch(
            "SELECT * FROM nodes WHERE group_id = ANY($1) ORDER BY id", ids
        )
        return Snapshot(
            {row["id"]: dict(row) for row in jobs},
            {(row["job_id"], row["number"]): dict(row) for row in attempts},
            {row["id"]: dict(row) for row in nodes},
        )

    async def do(self, step: Step, before: Snapshot) -> None:
        """Make a call and check that the API knows its answer."""
        await getattr(self, f"_{step.kind}")(step, before)

    async def _post(self, path: str, **body: Any) -> httpx.Response:
        answer = await self.service.post(f"/v22_1/{path}", json=body)
        assert answer.status_code in ANSWERS, f"{path}: {answer.status_code} {answer.text}"
        assert answer.status_code != 422, f"{path}: {answer.text}"
        return answer

    def _token(self, step: Step, job: Row | None = None) -> Member:
        """A node of the step's group. For a job with a node, most often that node."""
        members = self.nodes[step.group]
        if job is not None and step.node > 1:
            members = [one for one in members if one.node.id == job["node_id"]] or members
        return members[step.node % len(members)]

    def _job(
        self, step: Step, before: Snapshot, *states: str, started: bool | None = None
    ) -> Row | None:
        """A job, most often of the step's group and in a state that the call is for."""
        group = step.group if step.job % 16 else 1 - step.group
        rows = [before.jobs[job_id] for job_id in self.jobs[group]]
        fit = [
            row
            for row in rows
            if (not states or row["state"] in states)
            and (started is None or (row["started_at"] is not None) == started)
        ]
        chosen = (fit if step.job % 5 else None) or rows
        return chosen[step.job % len(chosen)] if chosen else None

    @staticmethod
    def _number(step: Step, job: Row) -> int:
        return max(1, int(job["attempt"]) + step.attempt)

    def _user(self, step: Step) -> str:
        group = self.groups[step.group]
        return group.user_secret if step.which % 3 else group.admin_secret

    async def _submit(self, step: Step, _: Snapshot) -> None:
        # Few buckets, so some are submitted again, also by other users and with other parameters.
        body = {
            "bucketid": f"bucket-{self.groups[0].id}-{step.job % 6}",
            "codeversion": ("psi4:1.5", "orca:6")[step.attempt % 2],
            "cores": 1 + step.which % 2,
            "memorymb": (4000, 4123)[step.attempt % 2],
        }
        if step.which % 4:
            ends = ["out-of-memory", "time-limit", "exit=any"]
            body |= {"retry": 2, "retryon": ends, "retrymemorymb": 7000}
        answer = await self._post("task-submit", secret=self._user(step), **body)
        if answer.status_code == 200:
            job_id = UUID(answer.json())
            if job_id not in self.jobs[step.group]:
                self.jobs[step.group].append(job_id)

    async def _claim(self, step: Step, _: Snapshot) -> None:
        group = self.groups[step.group]
        await self.pool.execute(
            "UPDATE jobs SET not_before = now() "
            "WHERE group_id = $1 AND not_before > now() AND state = 'received'",
            group.id,
        )
        claimed = await claim_jobs(self.pool, group, 1 + step.which % 3)
        if step.attempt == 0 and claimed:
            await queries.note_dispatched(
                self.pool,
                job_ids=[row["job_id"] for row in claimed],
                numbers=[row["number"] for row in claimed],
                nomad_job_ids=[f"child-{row['job_id']}-{row['number']}" for row in claimed],
            )

    async def _start(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before, "submitted", started=False)) is None:
            return
        attempt = job["id"], self._number(step, job)
        member, key = self._token(step), f"start-key-{step.which % 2}"
        answer = await self._post(
            "attempt-start",
            nodetoken=member.token,
            jobid=str(attempt[0]),
            attempt=attempt[1],
            startkey=key,
        )
        if answer.status_code == 200:
            self.started.setdefault(attempt, set()).add((member.node.id, key))

    async def _running(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before, "submitted", started=True)) is None:
            return
        attempt = job["id"], self._number(step, job)
        await queries.note_running(
            self.pool,
            job_ids=[attempt[0]],
            numbers=[attempt[1]],
            node_ids=[self._token(step, job).node.id],
            times=[await self.pool.fetchval("SELECT now()")],
        )

    async def _upload(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before, "submitted", "running", started=True)) is None:
            return
        attempt = job["id"], self._number(step, job)
        member = self._token(step, job)
        answer = await self._post(
            "attempt-upload", nodetoken=member.token, jobid=str(attempt[0]), attempt=attempt[1]
        )
        if answer.status_code == 200:
            assert member.node.id in {node for node, _ in self.started[attempt]}

    async def _end(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before, "submitted", "running", started=True)) is None:
            return
        attempt = job["id"], self._number(step, job)
        outcome = OUTCOMES[step.which % len(OUTCOMES)]
        receipt: dict[str, Any] = {"outcome": outcome}
        if outcome == "ended":
            receipt["exitcode"] = step.which % 2
        if step.which % 4:
            receipt |= {"uploadedfiles": 2, "uploadedbytes": 10, "wallseconds": 1.5}
        if step.which % 5 == 0:
            receipt["message"] = "it said\x00 so"
        member = self._token(step, job)
        body = {"nodetoken": member.token, "jobid": str(attempt[0]), "attempt": attempt[1]}
        answer = await self._post("attempt-end", **body, **receipt)
        if answer.status_code == 200:
            assert member.node.id in {node for node, _ in self.started[attempt]}
            self.receipts.setdefault(attempt, []).append(receipt)

    async def _report(self, step: Step, before: Snapshot) -> None:
        held = [
            {"jobid": str(job_id), "attempt": max(1, before.jobs[job_id]["attempt"] + step.attempt)}
            for jobs in self.jobs
            for place, job_id in enumerate(jobs)
            if step.job >> place & 1
        ]
        member = self._token(step)
        answer = await self._post("node-report", nodetoken=member.token, attempts=held)
        if answer.status_code == 200:
            told = answer.json()
            known = [(one["jobid"], one["attempt"]) for one in held]
            for one in told["drop"] + told["cancel"]:
                assert (one["jobid"], one["attempt"]) in known

    async def _cancel(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before)) is None:
            return
        await self._post("task-cancel", secret=self._user(step), jobid=str(job["id"]))

    async def _status(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before)) is None:
            return
        await self._post("task-status", secret=self._user(step), jobid=str(job["id"]))

    async def _abandon(self, step: Step, before: Snapshot) -> None:
        if (job := self._job(step, before, "submitted", "running")) is None:
            return
        attempt = job["id"], self._number(step, job)
        one = AttemptId(*attempt)
        abandonment = Abandonment(one, "its node does not answer", counts=bool(step.which % 2))
        if step.which % 3 == 0:
            abandonment = Abandonment.of_unstarted(one, "the group's nodes are others now")
        await abandon(self.pool, [abandonment], Retries.of(self.settings))

    async def _drain(self, step: Step, _: Snapshot) -> None:
        node = self._token(step).node
        secret = self.groups[step.group].admin_secret
        await self._post("group-node-drain", adminsecret=secret, node=str(node.id))

    async def _resume(self, step: Step, _: Snapshot) -> None:
        """Resume the node as the API does, without Nomad, which knows none of the nodes."""
        node = self._token(step).node
        async with self.pool.acquire() as connection:
            await give_jobs_again(connection, NamedNode(node.id, "machine", DEFAULT))

    async def _remove(self, step: Step, _: Snapshot) -> None:
        """Remove one of the two nodes of a group."""
        node = self.nodes[step.group][-1].node
        secret = self.groups[step.group].admin_secret
        await self._post("group-node-remove", adminsecret=secret, node=str(node.id))
