"""Each check of the soak finds the fault that is planted in evidence without faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from soak_evidence import (
    CROWD,
    FAILING,
    LONG,
    RUN,
    STRANGER,
    THEN,
    WELL,
    planned_job,
    soak_evidence,
)

from soak.checks import findings
from soak.evidence import Evidence
from soak.killer import Kill
from soak.plan import Kind
from soak.witness import Containers


def test_a_run_without_a_fault_has_no_findings() -> None:
    assert findings(soak_evidence()) == []


Plant = Callable[[Evidence], object]


def _lose_row(evidence: Evidence) -> None:
    del evidence.jobs[FAILING]


def _unknown_job(evidence: Evidence) -> None:
    evidence.jobs[STRANGER] = replace(evidence.jobs[CROWD], id=STRANGER, bucket="another")


def _duplicate_bucket(evidence: Evidence) -> None:
    evidence.jobs[STRANGER] = replace(evidence.jobs[CROWD], id=STRANGER)


def _same_id_twice(evidence: Evidence) -> None:
    evidence.ids[planned_job(9, Kind.CROWD)] = CROWD


def _still_running(evidence: Evidence) -> None:
    evidence.jobs[WELL].state = "running"
    evidence.jobs[WELL].ended_at = None


def _another_final_state(evidence: Evidence) -> None:
    evidence.observed[WELL] = "failed"


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


def _container_without_grant(evidence: Evidence) -> None:
    evidence.attempts[WELL][0].started_at = None
    evidence.containers[f"{WELL}x1"] = Containers(1, [0])


def _receipt_without_container(evidence: Evidence) -> None:
    del evidence.containers[f"{FAILING}x1"]


def _mixed_bucket(evidence: Evidence) -> None:
    evidence.buckets[WELL]["run-1"] = f"{WELL} {STRANGER}\n".encode()


def _other_jobs_output(evidence: Evidence) -> None:
    evidence.buckets[LONG] = {"runs": f"{WELL} {RUN}\n".encode()}


def _earlier_attempts_output(evidence: Evidence) -> None:
    evidence.writers[WELL] = {f"{WELL}x1"}


def _unmarked_output(evidence: Evidence) -> None:
    evidence.writers[WELL].add(None)


def _found_files_of_another_job(evidence: Evidence) -> None:
    evidence.buckets[WELL]["left"] = b"/tmp/x\n"


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
        "node, killed after 9 s, did not work again",
    ),
    (_lose_row, f"job {FAILING} was accepted and is not in the database"),
    (_unknown_job, f"job {STRANGER} is in the database, but no submit was answered"),
    (_duplicate_bucket, "bucket bucket-3 belongs to 2 jobs"),
    (_same_id_twice, "5 buckets were answered with 4 different jobs"),
    (_still_running, f"job {WELL} has not ended: it is running"),
    (_another_final_state, f"job {WELL} is completed, but its user saw failed"),
    (_listed_twice, "task-list has {'cancelled': 2, 'completed': 2, 'failed': 1}"),
    (_not_in_activity, "group-activity has {'cancelled': 1, 'completed': 1, 'failed': 1}"),
    (_usage_misses_one, "group-usage has {'cancelled': 1, 'completed': 1, 'failed': 1, 'jobs': 4}"),
    (_cancelled_unasked, f"job {CROWD} (crowd) was cancelled, but nobody asked"),
    (_failed_for_the_platform, f"job {WELL} (ends well) ended failed"),
    (_wrong_exit_code, f"job {FAILING} has exit code 4, its command 3"),
    (_crowd_ran, f"job {CROWD} (crowd) should be cancelled, and is failed"),
    (_open_attempt, f"attempt {FAILING}x1 is open: no outcome is recorded"),
    (_attempt_missing, f"job {WELL} is at attempt 2, and has the attempts [2]"),
    (_ended_twice, f"job {WELL} ended more than once, by the attempts [1, 2]"),
    (_ended_twice, f"attempt {WELL}x1 ended its job (ended), but the job ran again"),
    (_start_key_twice, f"start key key-{WELL} started 2 jobs"),
    (_container_started_twice, f"the command of attempt {WELL}x2 was started 2 times"),
    (_container_without_grant, f"attempt {WELL}x1 was started without a start grant"),
    (_receipt_without_container, f"attempt {FAILING}x1 has a receipt of its end, and Docker never"),
    (_mixed_bucket, f"the bucket of job {WELL} holds the output of 2 runs"),
    (_other_jobs_output, f"the bucket of job {LONG} holds the output of another job"),
    (_earlier_attempts_output, f"the bucket of job {WELL} has output of {WELL}x1, at attempt 2"),
    (_unmarked_output, f"the bucket of job {WELL} has output of None, at attempt 2"),
    (_found_files_of_another_job, f"left in the bucket of job {WELL} differs from the command's"),
    (
        _ran_twice_in_one_attempt,
        f"runs in the bucket of job {WELL} differs from the command's output",
    ),
    (_missing_file, f"the bucket of job {WELL} lacks parts/2"),
    (_foreign_file, f"the bucket of job {WELL} holds core, which its command did not write"),
    (_empty_bucket, f"the bucket of job {WELL}, which completed, holds no output"),
    (_miscounted_upload, f"the receipt of job {FAILING} says 1 files, its bucket has 9"),
    (_core_hours_wrong, "group-usage has 0.005000 core-hours for ada, the attempts 0.004000"),
    (_audited_twice, f"an admin cancelled job {LONG}, which is audited 2 times"),
    (_audited_for_nothing, f"the audit says that an admin cancelled job {CROWD}"),
    (lambda e: e.alive_in_nomad.append("job leruli-x is running"), "Nomad's job leruli-x is run"),
    (lambda e: e.containers_left.append(f"{WELL}x2"), f"attempt {WELL}x2 is left in Docker"),
    (lambda e: e.left_on_node.append("receipts/x"), "receipts/x is left on the node"),
    (_not_stopped, f"attempt {LONG}x1 should be stopped in Nomad, but is not"),
]


@pytest.mark.parametrize(("plant", "sentence"), PLANTED)
def test_a_planted_fault_is_found(plant: Plant, sentence: str) -> None:
    evidence = soak_evidence()
    plant(evidence)
    found = findings(evidence)
    assert any(sentence in one for one in found), found
    assert all(one.startswith("seed 7: ") for one in found)


def test_a_receipt_after_the_attempt_was_abandoned_is_no_second_end() -> None:
    evidence = soak_evidence()
    first = evidence.attempts[WELL][0]
    first.outcome, first.exit_code, first.message = "ended", 0, "its node does not answer"
    first.stop_requested_at = first.stopped_at = THEN - timedelta(seconds=5)
    evidence.containers[first.key] = Containers(1, [0])
    assert findings(evidence) == []


def test_an_attempt_that_a_slot_handed_back_may_run_elsewhere() -> None:
    evidence = soak_evidence()
    first = evidence.attempts[WELL][0]
    first.outcome, first.message, first.slot_job = None, "handed back by its node", LONG
    assert findings(evidence) == []
    first.slot_job = None
    assert findings(evidence) != []


def test_a_slot_may_ask_under_the_same_key_again() -> None:
    evidence = soak_evidence()
    evidence.jobs[FAILING].start_key = evidence.jobs[WELL].start_key
    for job_id in (WELL, FAILING):
        evidence.attempts[job_id][-1].slot_job = LONG
    assert findings(evidence) == []
    evidence.attempts[FAILING][-1].slot_job = CROWD
    assert findings(evidence) != []


def test_a_cancelled_job_may_keep_output_of_an_earlier_attempt() -> None:
    evidence = soak_evidence()
    evidence.writers[LONG] = {f"{LONG}x0"}
    assert findings(evidence) == []


def test_docker_sees_no_start_of_a_job_in_another_ones_container() -> None:
    evidence = soak_evidence()
    del evidence.containers[f"{FAILING}x1"]
    job = next(job for job, job_id in evidence.ids.items() if job_id == FAILING)
    evidence.ids = {
        replace(known, shares=True) if known is job else known: job_id
        for known, job_id in evidence.ids.items()
    }
    assert findings(evidence) == []


def test_a_refused_second_start_is_no_second_run() -> None:
    evidence = soak_evidence()
    evidence.containers[f"{WELL}x2"] = Containers(2, [122, 0])
    assert findings(evidence) == []


def test_further_sentences_of_a_check_are_counted() -> None:
    evidence = soak_evidence()
    evidence.contradictions += [f"job {n} is strange" for n in range(8)]
    assert findings(evidence)[-1] == "seed 7: and 3 more like that"
