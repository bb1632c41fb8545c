from __future__ import annotations

import pytest

from leruli_queue.jobs.outcomes import Limits, Outcome, Receipt, judge
from leruli_queue.jobs.states import JobState

LIMITS = Limits(memory_mb=4000, time_limit_s=3600, image="psi4:1.6")


@pytest.mark.parametrize(
    ("receipt", "state", "reason"),
    [
        (Receipt(Outcome.ENDED, 0), "completed", None),
        (Receipt(Outcome.ENDED, 3), "failed", "its command ended with exit code 3"),
        (
            Receipt(Outcome.TIME_LIMIT, 143),
            "failed",
            "time limit of 3600 s reached; output up to then was uploaded",
        ),
        (Receipt(Outcome.OUT_OF_MEMORY, 137), "failed", "killed: used more than 4000 MB"),
        (
            Receipt(Outcome.OUT_OF_DISK, 143, "used more than 500 MB of disk"),
            "failed",
            "used more than 500 MB of disk",
        ),
        (
            Receipt(Outcome.IMAGE_UNKNOWN, message="image psi4:1.6 is not published; psi4 has 1.5"),
            "failed",
            "image psi4:1.6 is not published; psi4 has 1.5",
        ),
        (
            Receipt(Outcome.INPUT_BROKEN, message="run.tgz is not there"),
            "failed",
            "its input cannot be used; run.tgz is not there",
        ),
        (
            Receipt(Outcome.STOPPED, 143),
            "received",
            "its node was taken out of service; it will run again",
        ),
        (Receipt(Outcome.NODE_TROUBLE, message="Docker is down"), "received", "Docker is down"),
        (
            Receipt(Outcome.INPUT_BROKEN, message="the job's bucket is missing"),
            "failed",
            "its bucket is not there any more: it was purged or deleted before the job could run",
        ),
        (
            Receipt(Outcome.UPLOAD_FAILED, 0, "the job's bucket is not there any more"),
            "failed",
            "its bucket is not there any more: it was purged or deleted while the job ran, so "
            "there are no results",
        ),
        (
            Receipt(Outcome.UPLOAD_FAILED, 1, "x; the job's bucket is not there any more"),
            "failed",
            "its bucket is not there any more: it was purged or deleted while the job ran, so "
            "there are no results",
        ),
        (Receipt(Outcome.UPLOAD_FAILED), "received", "the object storage did not take the output"),
    ],
)
def test_the_verdict_of_each_receipt(receipt: Receipt, state: str, reason: str | None) -> None:
    verdict = judge(receipt, LIMITS, cancel_requested=False, stop_expected=True)
    assert (verdict.state, verdict.reason) == (state, reason)


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.ENDED])
def test_a_cancelled_job_is_cancelled_however_its_attempt_ended(outcome: Outcome) -> None:
    verdict = judge(Receipt(outcome), LIMITS, cancel_requested=True, stop_expected=True)
    assert verdict.state is JobState.CANCELLED


@pytest.mark.parametrize("stop_expected", [False, True])
@pytest.mark.parametrize("outcome", Outcome)
def test_a_cancelled_job_is_not_said_to_run_again_or_to_wait(
    outcome: Outcome, stop_expected: bool
) -> None:
    receipt = Receipt(outcome, exit_code=143)
    verdict = judge(receipt, LIMITS, cancel_requested=True, stop_expected=stop_expected)
    assert verdict.reason is not None
    assert verdict.reason.startswith("cancelled")
    assert "again" not in verdict.reason
    assert "wait" not in verdict.reason


@pytest.mark.parametrize(
    ("receipt", "reason"),
    [
        (
            Receipt(Outcome.STOPPED, 143, uploaded_files=2),
            "cancelled while it ran; output up to then was uploaded",
        ),
        (Receipt(Outcome.STOPPED, 143), "cancelled; no output was uploaded"),
        (Receipt(Outcome.IMAGE_UNKNOWN), "cancelled before it ran"),
        (
            Receipt(Outcome.UPLOAD_FAILED),
            "cancelled; the object storage did not take the output, so output may be missing",
        ),
        (
            Receipt(Outcome.NODE_TROUBLE, message="Docker is down"),
            "cancelled; Docker is down, so output may be missing",
        ),
    ],
)
def test_a_cancelled_job_is_not_promised_missing_output(receipt: Receipt, reason: str) -> None:
    verdict = judge(receipt, LIMITS, cancel_requested=True, stop_expected=True)
    assert verdict.reason == reason


def test_a_command_that_ended_before_its_cancellation_is_completed() -> None:
    verdict = judge(Receipt(Outcome.ENDED, 0), LIMITS, cancel_requested=True, stop_expected=True)
    assert verdict.state is JobState.COMPLETED


def test_only_failures_of_the_platform_count_as_lost_attempts() -> None:
    counting = set()
    for outcome in Outcome:
        verdict = judge(Receipt(outcome), LIMITS, cancel_requested=False, stop_expected=True)
        if verdict.counts_as_lost:
            counting.add(outcome)
    assert counting == {Outcome.NODE_TROUBLE, Outcome.UPLOAD_FAILED}


def test_an_unexpected_stop_counts() -> None:
    verdict = judge(Receipt(Outcome.STOPPED), LIMITS, cancel_requested=False, stop_expected=False)
    assert (verdict.state, verdict.counts_as_lost) == (JobState.RECEIVED, True)
