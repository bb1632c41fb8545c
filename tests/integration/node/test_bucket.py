"""Which objects an agent may delete or replace in a job's bucket, and until when."""

from __future__ import annotations

import io
import tarfile
import time

import pytest
from node_rig import Job, Rig, next_attempt, wait_for

MARK = "x-amz-meta-leruli-attempt"
FOREIGN = {"raw/2019.h5": b"data", "thesis.pdf": b"years of work"}


def contents(rig: Rig, job: Job) -> dict[str, bytes]:
    return {name: rig.store.get(job.bucket, name) for name in rig.store.names(job.bucket)}


def put(rig: Rig, job: Job, objects: dict[str, bytes]) -> None:
    for name, data in objects.items():
        rig.store.put(job.bucket, name, data)


@pytest.mark.parametrize(
    "case", ["without input", "with input", "unknown image", "a second opinion"]
)
def test_a_bucket_with_foreign_objects_is_left_as_it_is(rig: Rig, case: str) -> None:
    """H8: a user with an API secret can name any bucket of the group's storage in task-submit."""
    job = rig.job(code="unheard-of" if case == "unknown image" else "plain")
    if case == "a second opinion":
        job = next_attempt(rig, job)
        job.grant["unmarkedoutput"] = False
    put(rig, job, FOREIGN)
    if case == "without input":
        rig.store.client.remove_object(job.bucket, "run.tgz")
    before = contents(rig, job)
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert contents(rig, job) == before
    if case != "unknown image":
        assert receipt["outcome"] == "input_broken"
        assert "not of this job: raw/2019.h5, thesis.pdf. Nothing" in receipt["message"]
    assert rig.is_clean(job)


def test_a_retry_removes_objects_of_the_earlier_attempt_and_nothing_else(rig: Rig) -> None:
    """H8: the attempt in an object's metadata says who wrote it."""
    first = rig.job("echo 1 >same; echo 1 >a; mkdir d; echo 1 >d/x; touch $(seq 1100)")
    assert rig.run(first)["uploadedfiles"] == 1105
    command = "echo 2 >same; mkdir a; echo 2 >a/b; echo 2 >thesis.pdf; sleep 2"
    second = next_attempt(rig, first, command)
    assert rig.stage_in(second) == 0
    container = rig.run_container(second)
    put(rig, second, FOREIGN)
    container.wait(timeout=20)
    assert rig.stage_out(second) == 0
    receipt = rig.receipt(second)
    assert receipt["outcome"] == "ended"
    left = contents(rig, second)
    note = b"1 file with the name of an object that is not of this job: thesis.pdf"
    assert note in left.pop("joberr.txt")
    assert note.decode().rpartition(":")[0] in receipt["message"]
    assert left.pop("run.tgz")
    with tarfile.open(fileobj=io.BytesIO(left.pop("leruli-more.tar.gz"))) as rest:
        assert rest.getnames() == ["thesis.pdf"]
    assert left == {"same": b"2\n", "a/b": b"2\n", "joblog.txt": b"", **FOREIGN}
    mark = rig.store.client.stat_object(second.bucket, "same").metadata[MARK]
    assert mark == second.name


def test_objects_of_a_later_attempt_stay(rig: Rig) -> None:
    """H7: an attempt that was abandoned and comes back does not touch its successor's objects."""
    first = rig.job("echo 1 >result; sleep 2")
    assert rig.stage_in(first) == 0
    container = rig.run_container(first)
    second = next_attempt(rig, first)
    for name in ("result", "joblog.txt", "only-2"):
        rig.store.client.put_object(
            second.bucket, name, _Two(), 2, metadata={"leruli-attempt": second.name}
        )
    container.wait(timeout=20)
    assert rig.stage_out(first) == 0
    left = contents(rig, first)
    assert {name: left[name] for name in ("result", "joblog.txt", "only-2")} == dict.fromkeys(
        ("result", "joblog.txt", "only-2"), b"2\n"
    )


def test_a_retry_after_the_agent_was_updated_ends_well(rig: Rig) -> None:
    """H8: an older agent's objects have no mark: they are replaced, and never deleted."""
    second = next_attempt(rig, rig.job(), "echo 2 >result")
    second.grant["unmarkedoutput"] = True
    put(rig, second, {"joblog.txt": b"1\n", "result": b"1\n", "left-over": b"1\n"})
    receipt = rig.run(second)
    assert receipt["outcome"] == "ended"
    assert receipt["message"].endswith("older version of the node agent: left-over")
    left = contents(rig, second)
    assert (left["result"], left["joblog.txt"], left["left-over"]) == (b"2\n", b"", b"1\n")
    # An object older than run.tgz is no output of the job.
    third = next_attempt(rig, second, "true")
    assert rig.stage_in(third) != 0
    assert rig.stage_out(third) == 0
    assert "not of this job: left-over." in rig.receipt(third)["message"]


def test_where_no_container_ran_only_the_reason_is_written(rig: Rig) -> None:
    """H8: an attempt without output does not delete the output of an earlier one."""
    first = rig.job("echo 1 >result")
    rig.run(first)
    second = next_attempt(rig, first)
    second.grant["code"] = "unheard-of"
    assert rig.stage_in(second) != 0
    assert rig.stage_out(second) == 0
    assert rig.receipt(second)["outcome"] == "image_unknown"
    left = contents(rig, second)
    assert left["result"] == b"1\n"
    assert b"unheard-of" in left["joberr.txt"]


class _Two:
    """A file with the content of attempt 2."""

    def read(self, size: int) -> bytes:
        return b"2\n"[:size]


FILES = 3000


def in_the_middle_of_an_upload(rig: Rig) -> Job:
    """A job with many files; some are uploaded, many are not."""
    job = rig.job(f"echo ran >z; touch $(seq {FILES})")
    assert rig.stage_in(job) == 0
    rig.run_container(job).wait(timeout=30)
    rig.stage("out", job)
    wait_for(lambda: len(rig.store.names(job.bucket)) > 20, what="the first output")
    return job


def count_after(rig: Rig, job: Job, seconds: float) -> int:
    time.sleep(seconds)
    return len(rig.store.names(job.bucket))


def test_an_upload_pauses_while_its_lease_cannot_be_renewed(rig: Rig) -> None:
    """H7: S3 answers and the service does not; another node may have the attempt by now."""
    rig.service.silence_seconds = 1.0
    job = in_the_middle_of_an_upload(rig)
    rig.service.down = True
    paused = count_after(rig, job, 1.6)
    assert paused < FILES
    assert count_after(rig, job, 1.0) == paused
    rig.service.down = False
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert receipt["uploadedfiles"] == FILES + 3
    assert "the upload pauses: its lease is too old" in rig.log


def test_a_paused_upload_ends_when_another_node_has_the_attempt(rig: Rig) -> None:
    """H7: the next renewal is refused before it writes again."""
    rig.service.silence_seconds = 1.0
    job = in_the_middle_of_an_upload(rig)
    rig.service.down = True
    paused = count_after(rig, job, 1.6)
    rig.service.stale.add(job.key)
    rig.service.down = False
    wait_for(lambda: rig.is_clean(job), what="it is dropped")
    assert count_after(rig, job, 0.5) == paused < FILES
    assert rig.service.count("attempt-end") == 0


def test_an_upload_ends_when_a_report_is_answered_with_drop(rig: Rig) -> None:
    """H7: not only at the next renewal."""
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    job = in_the_middle_of_an_upload(rig)
    rig.service.stale.add(job.key)
    wait_for(lambda: rig.is_clean(job), 5, "it is dropped")
    assert len(rig.store.names(job.bucket)) < FILES
