"""Evidence of a small soak without faults, for the tests of its checks."""

from __future__ import annotations

from datetime import UTC, datetime

from soak.evidence import AttemptRow, Evidence, JobRow
from soak.killer import Kill
from soak.plan import Job, Kind
from soak.witness import Containers

WELL, FAILING, LONG, CROWD = (f"01a20e9c-0000-7000-8000-00000000000{n}" for n in range(4))
STRANGER = "01a20e9c-0000-7000-8000-0000000000ff"
RUN = "7d444840-9dc0-4b1a-8c3a-5c0d6b1f7a10"
THEN = datetime(2026, 11, 24, tzinfo=UTC)


def planned_job(number: int, kind: Kind, exit_code: int = 0) -> Job:
    """Return a small job of a plan."""
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
        slot_job=None,
    )


def soak_evidence() -> Evidence:
    """Return evidence of a completed job (second attempt), a failed one and two cancelled ones."""
    jobs = {
        WELL: planned_job(0, Kind.ENDS_WELL),
        FAILING: planned_job(1, Kind.FAILS, 3),
        LONG: planned_job(2, Kind.LONG),
        CROWD: planned_job(3, Kind.CROWD),
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
        observed=dict(states),
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
            WELL: jobs[WELL].output(f"{WELL} {RUN}"),
            FAILING: jobs[FAILING].output(f"{FAILING} {RUN}"),
            LONG: {"runs": f"{LONG} {RUN}\n".encode()},
        },
        writers={WELL: {f"{WELL}x2"}, FAILING: {f"{FAILING}x1"}, LONG: {f"{LONG}x1"}},
        containers={
            f"{WELL}x2": Containers(1, [0]),
            f"{FAILING}x1": Containers(1, [3]),
            f"{LONG}x1": Containers(1, [143]),
        },
        kills=[Kill("service", 3.0, 1.5)],
    )
