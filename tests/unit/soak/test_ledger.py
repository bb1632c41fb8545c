"""The ledger records ids and states, and finds contradictory answers."""

from __future__ import annotations

from soak.ledger import Ledger
from soak.plan import Job, Kind

JOB = Job(0, 0, Kind.ENDS_WELL, "bucket")


def test_the_same_id_again_is_no_contradiction() -> None:
    ledger = Ledger()
    ledger.accept([JOB], ["x"])
    ledger.accept([JOB], ["x"])
    assert ledger.contradictions == []


def test_another_id_for_a_bucket_is_a_contradiction() -> None:
    ledger = Ledger()
    ledger.accept([JOB], ["x"])
    ledger.accept([JOB], ["y"])
    assert ledger.contradictions == ["bucket bucket was submitted again: it was job x, now y"]
    assert ledger.known() == {JOB: "x"}


def test_a_final_state_is_the_last() -> None:
    ledger = Ledger()
    for state in ("received", "running", "received", "completed", "completed"):
        ledger.observe("x", state, None)
    assert ledger.contradictions == []
    ledger.observe("x", "running", None)
    assert ledger.contradictions == ["job x was completed, and then it was running"]


def test_cancelled_jobs_have_not_ended_by_themselves() -> None:
    ledger = Ledger()
    for job_id, state in (("x", "completed"), ("y", "cancelled"), ("z", "failed")):
        ledger.observe(job_id, state, None)
    assert ledger.ended() == 2
