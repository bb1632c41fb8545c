"""Submit, claim, start, upload, end, cancel, abandon and report in any order, by any node.

A state machine of Hypothesis makes the calls against the real service and database, some of them
concurrently. After each step it checks all rows of its two groups.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from property_world import search_states, searching
from service_world import running_service
from states_world import Row, Snapshot, Step, World

from leruli_queue.jobs.states import FINAL, TRANSITIONS, JobState
from leruli_queue.settings import Settings
from leruli_queue.store.pool import open_pool

KINDS = (
    *("submit", "submit", "submit", "claim", "claim", "claim", "start", "start", "start", "start"),
    *("running", "running", "upload", "upload", "end", "end", "end", "end", "report", "report"),
    *("cancel", "status", "abandon", "abandon", "drain", "resume", "resume", "remove"),
)


def steps(kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        kind=st.sampled_from(kinds),
        group=st.integers(0, 1),
        node=st.integers(0, 7),
        job=st.integers(0, 63),
        attempt=st.sampled_from((0, 0, 0, 0, -1, 1)),
        which=st.integers(0, 40),
    )


def reachable(before: JobState, many: int) -> set[JobState]:
    """The states that can be reached with at most this number of transitions."""
    found = {before}
    for _ in range(many):
        found |= {onward for state in found for onward in TRANSITIONS[state]}
    return found


def check_change(before: Snapshot, after: Snapshot, calls: int) -> None:
    """Only transitions of the table occur, final jobs do not change, attempt numbers ascend."""
    assert before.jobs.keys() <= after.jobs.keys()
    for job_id, now in after.jobs.items():
        was = before.jobs.get(job_id)
        if was is None:
            assert (now["state"], now["attempt"]) == ("received", 0) or calls > 1
            continue
        state, old = JobState(now["state"]), JobState(was["state"])
        assert state in reachable(old, calls), f"{old} became {state}"
        assert was["attempt"] <= now["attempt"] <= was["attempt"] + calls
        assert now["lost_attempts"] >= was["lost_attempts"]
        for name in ("group_id", "user_id", "bucket", "code", "version", "cores", "most_retries"):
            assert now[name] == was[name], f"{name} was changed"
        check_retries(was, now, calls)
        if old in FINAL:
            assert now == was, "a job was changed that was over"
    for key, was in before.attempts.items():
        now = after.attempts[key]
        for name in ("ended_at", "outcome", "exit_code", "started_at", "node_id", "claimed_at"):
            assert was[name] is None or now[name] == was[name], f"{name} of {key} was changed"


def check_retries(was: Row, now: Row, calls: int) -> None:
    """Only a retry rule changes the limits of a job, and it is applied within its bounds."""
    if now["most_retries"] is None:
        assert now["retries"] is None
        assert now["memory_mb"] == was["memory_mb"], "memory_mb was changed without a rule"
        return
    assert was["retries"] <= now["retries"] <= min(was["retries"] + calls, now["most_retries"])
    assert now["first_memory_mb"] == was["first_memory_mb"]
    most = min(now["first_memory_mb"] * 2 ** now["retries"], 7000)
    assert was["memory_mb"] <= now["memory_mb"] <= most


def check_rows(world: World, snapshot: Snapshot) -> None:
    """Check what holds at any time."""
    buckets = [(row["group_id"], row["bucket"]) for row in snapshot.jobs.values()]
    assert len(buckets) == len(set(buckets))
    by_job: dict[UUID, list[Row]] = {job_id: [] for job_id in snapshot.jobs}
    for (job_id, _), attempt in sorted(snapshot.attempts.items()):
        by_job[job_id].append(attempt)
    for job_id, job in snapshot.jobs.items():
        check_job(world, snapshot, job, by_job[job_id])
    for key, starts in world.started.items():
        assert len(starts) == 1, f"{key} was started more than once: {starts}"
        [(node_id, _)] = starts
        assert snapshot.attempts[key]["node_id"] == node_id
        assert snapshot.nodes[node_id]["group_id"] == snapshot.jobs[key[0]]["group_id"]


def check_job(world: World, snapshot: Snapshot, job: Row, attempts: list[Row]) -> None:
    state = JobState(job["state"])
    assert [one["number"] for one in attempts] == list(range(1, job["attempt"] + 1))
    assert (job["ended_at"] is not None) == (state in FINAL)
    assert job["lost_attempts"] <= min(job["attempt"], world.settings.max_attempts)
    assert state is not JobState.CANCELLED or job["cancel_requested_at"] is not None
    for one in attempts[:-1]:
        assert is_closed(one), f"attempt {one['number']} has a successor and is open"
    if not attempts:
        assert state in (JobState.RECEIVED, JobState.CANCELLED)
        return
    last = attempts[-1]
    if state in (JobState.SUBMITTED, JobState.RUNNING):
        assert last["ended_at"] is None, "its attempt is over and the job is not"
        assert (job["started_at"] is None) == (last["started_at"] is None)
        assert (job["start_key"] is None) == (job["started_at"] is None)
        assert job["started_at"] is None or job["node_id"] == last["node_id"]
        assert state is not JobState.RUNNING or job["started_at"] is not None
    else:
        assert is_closed(last), f"the job is {state} and its last attempt is open"
    if state in FINAL:
        check_end(world, job, last)


def is_closed(attempt: Row) -> bool:
    return attempt["ended_at"] is not None or attempt["stop_requested_at"] is not None


def check_end(world: World, job: Row, last: Row) -> None:
    """The result is that of the last attempt's receipt, and that receipt was sent."""
    key = (last["job_id"], last["number"])
    if job["state"] == JobState.COMPLETED:
        assert (last["outcome"], last["exit_code"], job["exit_code"]) == ("ended", 0, 0)
    if last["outcome"] is not None:
        sent = {(one["outcome"], one.get("exitcode")) for one in world.receipts.get(key, [])}
        assert (last["outcome"], last["exit_code"]) in sent
    if job["state"] == JobState.FAILED and last["ended_at"] is None:
        assert job["lost_attempts"] >= world.settings.max_attempts


def check_others(before: Snapshot, after: Snapshot, group_id: int) -> None:
    """A call of one group does not change the rows of another."""
    assert before.of_group(group_id) == after.of_group(group_id), "another group's rows changed"


def machine(
    runner: asyncio.Runner, made: tuple[Any, ...], seen: Counter[str]
) -> type[RuleBasedStateMachine]:
    class Queue(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            self.world = runner.run(World.make(*made))
            self.before = runner.run(self.world.snapshot())

        @rule(step=steps())
        def one(self, step: Step) -> None:
            runner.run(self.world.do(step, self.before))
            other = self.world.groups[1 - step.group].id
            self.compare([step], other)

        @rule(step=steps(), more=st.lists(steps(), min_size=1, max_size=3))
        def at_once(self, step: Step, more: list[Step]) -> None:
            calls = [step, *more]

            async def together() -> None:
                async with asyncio.TaskGroup() as group:
                    for call in calls:
                        group.create_task(self.world.do(call, self.before))

            runner.run(together())
            groups = {call.group for call in calls}
            other = self.world.groups[1 - groups.pop()].id if len(groups) == 1 else None
            self.compare(calls, other)

        def compare(self, calls: list[Step], other: int | None) -> None:
            after = runner.run(self.world.snapshot())
            # The platform abandons attempts of any group, by the job.
            is_platform = any(call.kind in ("abandon", "running") for call in calls)
            if other is not None and not is_platform:
                check_others(self.before, after, other)
            check_change(self.before, after, len(calls))
            check_rows(self.world, after)
            self.before = after

        def teardown(self) -> None:
            seen.update(row["state"] for row in self.before.jobs.values())
            seen.update(retries=sum(row["retries"] or 0 for row in self.before.jobs.values()))
            seen.update(row["outcome"] for row in self.before.attempts.values() if row["outcome"])

    return Queue


@searching
def test_any_order_of_calls_keeps_jobs_in_valid_states(settings: Settings) -> None:
    wanted = settings.model_copy(update={"max_attempts": 3, "refusal_delay_s": 0.0})

    seen: Counter[str] = Counter()
    with asyncio.Runner() as runner:
        pool_opened = open_pool(wanted)
        serving = running_service(wanted)
        pool = runner.run(pool_opened.__aenter__())
        service = runner.run(serving.__aenter__())
        try:
            queue = machine(runner, (pool, service, wanted), seen)
            search_states(queue, "states", examples=15, steps=40)
        finally:
            runner.run(serving.__aexit__(None, None, None))
            runner.run(pool_opened.__aexit__(None, None, None))
    print(dict(seen))
    # Otherwise the test would show nothing.
    assert all(seen[state] for state in JobState)
    assert seen["retries"]
