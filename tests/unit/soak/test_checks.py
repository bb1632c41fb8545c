"""Each check of the soak finds what it is for: a fault is planted in evidence without any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from soak.checks import findings
from soak.evidence import AttemptRow, Evidence, JobRow
from soak.killer import Kill
from soak.plan import Job, Kind
from soak.witness import Containers

WELL, FAILING, LONG, CROWD = (f"01a20e9c-0000-7000-8000-00000000000{n}" for n in range(4))
STRANGER = "01a20e9c-0000-7000-8000-0000000000ff"
RUN = "7d444840-9dc0-4b1a-8c3a-5c0d6b1f7a10"
THEN = datetime(2026, 11, 24, tzinfo=UTC)


def _job(number: int, kind: Kind, exit_code: int = 0) -> Job:
    return Job(number, 0, kind, f"bucket-{number}", exit_code, parts=2, lines=3)


def _row(job: Job, job_id: str, state: str, attempt: int) -> JobRow:
    return JobRow(
        id=job_id,
        bucket=job.bucket,
        user_name="ada",
        state=state,
        reason=None,
        exit_code=job.exit_code if state in ("completed", "failed") else None,
        attempt=attempt,
        lost_attempts=0,
        cores=1,
        start_key=f"key-{job_id}" if attempt else None,
        ended_at=THEN,
    )


def _attempt(job_id: str, number: int, outcome: str | None, exit_code: int | None) -> AttemptRow:
    return AttemptRow(
        job_id=job_id,
        number=number,
        nomad_job_id="leruli-parent/dispatch",
        started_at=THEN,
        ended_at=THEN,
        outcome=outcome,
        exit_code=exit_code,
        message=None,
        wall_s=3.6,
        uploaded_files=None,
        stop_requested_at=None,
        stopped_at=None,
    )


def _evidence() -> Evidence:
    """A job that ended well at its second attempt, one that failed, two that were cancelled."""
    jobs = {
        WELL: _job(0, Kind.ENDS_WELL),
        FAILING: _job(1, Kind.FAILS, 3),
        LONG: _job(2, Kind.LONG),
        CROWD: _job(3, Kind.CROWD),
    }
    rows = {
        WELL: _row(jobs[WELL], WELL, "completed", 2),
        FAILING: _row(jobs[FAILING], FAILING, "failed", 1),
        LONG: _row(jobs[LONG], LONG, "cancelled", 1),
        CROWD: _row(jobs[CROWD], CROWD, "cancelled", 0),
    }
    cancelled = _attempt(LONG, 1, "stopped", 143)
    cancelled.stop_requested_at = cancelled.stopped_at = THEN
    states = [(job_id, row.state) for job_id, row in rows.items()]
    return Evidence(
        seed=7,
        ids={job: job_id for job_id, job in jobs.items()},
        told=dict(states),
        contradictions=[],
        cancelled={LONG, CROWD},
        cancelled_by_admin={LONG},
        jobs=rows,
        attempts={
            WELL: [_attempt(WELL, 1, "node_trouble", None), _attempt(WELL, 2, "ended", 0)],
            FAILING: [_attempt(FAILING, 1, "ended", 3)],
            LONG: [cancelled],
        },
        listed={"ada": list(states)},
        activity=list(states),
        usage={"ada": {"jobs": 4, "completed": 1, "failed": 1, "cancelled": 2, "corehours": 0.004}},
        audited_cancellations=[LONG],
        buckets={
            WELL: jobs[WELL].output(f"{WELL} 2 {RUN}", 2),
            FAILING: jobs[FAILING].output(f"{FAILING} 1 {RUN}", 1),
            LONG: {"runs": f"{LONG} 1 {RUN}\n".encode()},
        },
        containers={
            f"{WELL}x2": Containers(1, [0]),
            f"{FAILING}x1": Containers(1, [3]),
            f"{LONG}x1": Containers(1, [143]),
        },
        kills=[Kill("service", 3.0, 1.5)],
    )


def test_a_run_without_a_fault_has_no_findings() -> None:
    assert findings(_evidence()) == []


Plant = Callable[[Evidence], object]


def _lose_row(evidence: Evidence) -> None:
    del evidence.jobs[FAILING]


def _never_told(evidence: Evidence) -> None:
    evidence.jobs[STRANGER] = replace(evidence.jobs[CROWD], id=STRANGER, bucket="another")


def _duplicate_bucket(evidence: Evidence) -> None:
    evidence.jobs[STRANGER] = replace(evidence.jobs[CROWD], id=STRANGER)


def _same_id_twice(evidence: Evidence) -> None:
    evidence.ids[_job(9, Kind.CROWD)] = CROWD


def _still_running(evidence: Evidence) -> None:
    evidence.jobs[WELL].state = "running"
    evidence.jobs[WELL].ended_at = None


def _told_otherwise(evidence: Evidence) -> None:
    evidence.told[WELL] = "failed"


def _listed_twice(evidence: Evidence) -> None:
    evidence.listed["ada"].append((WELL, "completed"))


def _not_in_activity(evidence: Evidence) -> None:
    evidence.activity.pop()


def _usage_misses_one(evidence: Evidence) -> None:
    evidence.usage["ada"]["cancelled"] = 1


def _cancelled_unasked(evidence: Evidence) -> None:
    evidence.cancelled.discard(CROWD)


def _failed_for_the_platform(evidence: Evidence) -> None:
    evidence.jobs[WELL].state = "failed"


def _wrong_exit_code(evidence: Evidence) -> None:
    evidence.jobs[FAILING].exit_code = 4


def _crowd_ran(evidence: Evidence) -> None:
    evidence.jobs[CROWD].state = "failed"


def _open_attempt(evidence: Evidence) -> None:
    evidence.attempts[FAILING][0].ended_at = evidence.attempts[FAILING][0].outcome = None


def _attempt_missing(evidence: Evidence) -> None:
    del evidence.attempts[WELL][0]


def _ended_twice(evidence: Evidence) -> None:
    evidence.attempts[WELL][0].outcome = "ended"


def _start_key_twice(evidence: Evidence) -> None:
    evidence.jobs[FAILING].start_key = evidence.jobs[WELL].start_key


def _container_started_twice(evidence: Evidence) -> None:
    evidence.containers[f"{WELL}x2"] = Containers(2, [137, 0])


def _container_without_leave(evidence: Evidence) -> None:
    evidence.attempts[WELL][0].started_at = None
    evidence.containers[f"{WELL}x1"] = Containers(1, [0])


def _receipt_without_container(evidence: Evidence) -> None:
    del evidence.containers[f"{FAILING}x1"]


def _mixed_bucket(evidence: Evidence) -> None:
    evidence.buckets[WELL]["attempt-1"] = f"{WELL} 1 {RUN}\n".encode()


def _other_jobs_output(evidence: Evidence) -> None:
    evidence.buckets[LONG] = {"runs": f"{WELL} 1 {RUN}\n".encode()}


def _earlier_attempts_output(evidence: Evidence) -> None:
    job = _job(0, Kind.ENDS_WELL)
    evidence.buckets[WELL] = job.output(f"{WELL} 1 {RUN}", 1)


def _ran_twice_in_one_attempt(evidence: Evidence) -> None:
    evidence.buckets[WELL]["runs"] *= 2


def _missing_file(evidence: Evidence) -> None:
    del evidence.buckets[WELL]["parts/2"]


def _foreign_file(evidence: Evidence) -> None:
    evidence.buckets[WELL]["core"] = b""


def _empty_bucket(evidence: Evidence) -> None:
    evidence.buckets[WELL] = {}


def _miscounted_upload(evidence: Evidence) -> None:
    evidence.attempts[FAILING][0].uploaded_files = 1


def _core_hours_wrong(evidence: Evidence) -> None:
    evidence.usage["ada"]["corehours"] = 0.005


def _audited_twice(evidence: Evidence) -> None:
    evidence.audited_cancellations.append(LONG)


def _audited_for_nothing(evidence: Evidence) -> None:
    evidence.audited_cancellations.append(CROWD)


def _not_stopped(evidence: Evidence) -> None:
    evidence.attempts[LONG][0].stopped_at = None


PLANTED: list[tuple[Plant, str]] = [
    (lambda e: e.contradictions.append("job x was completed, and then it was failed"), "and then"),
    (
        lambda e: e.kills.append(Kill("node", 9.0, None)),
        "node, killed after 9 s, did not come back",
    ),
    (_lose_row, f"job {FAILING} was accepted and is not in the database"),
    (_never_told, f"job {STRANGER} is in the database, but nobody was told its id"),
    (_duplicate_bucket, "bucket bucket-3 belongs to 2 jobs"),
    (_same_id_twice, "5 buckets were answered with 4 different jobs"),
    (_still_running, f"job {WELL} has not ended: it is running"),
    (_told_otherwise, f"job {WELL} is completed, and its user was told failed"),
    (_listed_twice, "task-list has {'cancelled': 2, 'completed': 2, 'failed': 1}"),
    (_not_in_activity, "group-activity has {'cancelled': 1, 'completed': 1, 'failed': 1}"),
    (_usage_misses_one, "group-usage has {'cancelled': 1, 'completed': 1, 'failed': 1} for ada"),
    (_cancelled_unasked, f"job {CROWD} (crowd) was cancelled, which nobody asked for"),
    (_failed_for_the_platform, f"job {WELL} (ends well) ended failed"),
    (_wrong_exit_code, f"job {FAILING} has exit code 4, its command 3"),
    (_crowd_ran, f"job {CROWD} (crowd) should be cancelled, and is failed"),
    (_open_attempt, f"attempt {FAILING}x1 is open: nothing says how it ended"),
    (_attempt_missing, f"job {WELL} is at attempt 2, and has the attempts [2]"),
    (_ended_twice, f"job {WELL} ended more than once, by the attempts [1, 2]"),
    (_ended_twice, f"attempt {WELL}x1 is over (ended), and its job ran again all the same"),
    (_start_key_twice, f"start key key-{WELL} started 2 jobs"),
    (_container_started_twice, f"the command of attempt {WELL}x2 was started 2 times"),
    (_container_without_leave, f"attempt {WELL}x1 was started, which had no leave to start"),
    (_receipt_without_container, f"attempt {FAILING}x1 has a receipt of its end, and Docker never"),
    (_mixed_bucket, f"the bucket of job {WELL} holds the output of 2 runs"),
    (_other_jobs_output, f"the bucket of job {LONG} holds the output of another job"),
    (_earlier_attempts_output, f"the bucket of job {WELL} at attempt 2 holds the output of"),
    (_ran_twice_in_one_attempt, f"runs in the bucket of job {WELL} is not what its command wrote"),
    (_missing_file, f"the bucket of job {WELL} lacks parts/2"),
    (_foreign_file, f"the bucket of job {WELL} holds core, which its command did not write"),
    (_empty_bucket, f"the bucket of job {WELL}, which completed, holds no output"),
    (_miscounted_upload, f"the receipt of job {FAILING} says 1 files, its bucket has 8"),
    (_core_hours_wrong, "group-usage has 0.005000 core-hours for ada, the attempts 0.004000"),
    (_audited_twice, f"an admin cancelled job {LONG}, which is audited 2 times"),
    (_audited_for_nothing, f"the audit says that an admin cancelled job {CROWD}"),
    (lambda e: e.alive_in_nomad.append("job leruli-x is running"), "Nomad's job leruli-x is run"),
    (lambda e: e.containers_left.append(f"{WELL}x2"), f"attempt {WELL}x2 is left in Docker"),
    (lambda e: e.left_on_node.append("receipts/x"), "receipts/x is left on the node"),
    (_not_stopped, f"attempt {LONG}x1 was to be stopped in Nomad, and was not"),
]


@pytest.mark.parametrize(("plant", "sentence"), PLANTED)
def test_a_planted_fault_is_found(plant: Plant, sentence: str) -> None:
    evidence = _evidence()
    plant(evidence)
    found = findings(evidence)
    assert any(sentence in one for one in found), found
    assert all(one.startswith("seed 7: ") for one in found)


def test_a_receipt_that_came_after_its_attempt_was_given_up_is_no_second_end() -> None:
    evidence = _evidence()
    first = evidence.attempts[WELL][0]
    first.outcome, first.exit_code, first.message = "ended", 0, "its node does not answer"
    first.stop_requested_at = first.stopped_at = THEN - timedelta(seconds=5)
    evidence.containers[first.key] = Containers(1, [0])
    assert findings(evidence) == []


def test_a_second_start_that_was_refused_is_no_second_run() -> None:
    evidence = _evidence()
    evidence.containers[f"{WELL}x2"] = Containers(2, [122, 0])
    assert findings(evidence) == []


def test_many_of_one_kind_are_counted() -> None:
    evidence = _evidence()
    evidence.contradictions += [f"job {n} is strange" for n in range(8)]
    assert findings(evidence)[-1] == "seed 7: and 3 more like that"
