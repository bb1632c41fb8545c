"""Crashes and lost answers: nothing runs twice, nothing is lost, nothing is left."""

from __future__ import annotations

import subprocess
import time

import pytest
from node_input import pack
from node_rig import Rig, wait_for


def test_start_answer_lost(rig: Rig) -> None:
    job = rig.job("echo ran")
    rig.service.lose_answers["attempt-start"] = 2
    assert rig.run(job)["outcome"] == "ended"
    assert rig.service.count("attempt-start") == 3
    assert len({b["startkey"] for n, b in rig.service.calls if n == "attempt-start"}) == 1


def test_dropped_attempt_leaves_nothing(rig: Rig) -> None:
    job = rig.job()
    rig.service.stale.add(job.key)
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    assert rig.is_clean(job)
    assert rig.service.count("attempt-end") == 0


def test_second_allocation_of_an_attempt_is_refused(rig: Rig) -> None:
    job = rig.job("sleep 2; echo done")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    other = type(job)(job.job, job.attempt, job.bucket, "f" * 8 + job.alloc[8:], job.grant)
    assert rig.stage_in(other) != 0
    assert rig.stage_out(other) == 0
    assert not rig.is_clean(job)
    container.wait(timeout=20)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"


def test_stale_at_upload_uploads_nothing(rig: Rig) -> None:
    job = rig.job("echo late >late.txt")
    assert rig.stage_in(job) == 0
    rig.run_container(job).wait(timeout=20)
    rig.service.stale.add(job.key)
    assert rig.stage_out(job) == 0
    assert rig.store.names(job.bucket) == {"run.tgz"}
    assert rig.is_clean(job)


def test_receipt_is_held_while_the_service_is_down(rig: Rig) -> None:
    job = rig.job("echo x")
    assert rig.stage_in(job) == 0
    rig.run_container(job).wait(timeout=20)
    rig.service.lose_answers["attempt-end"] = 1_000
    task = rig.stage("out", job)
    spooled = rig.node_dir / "receipts" / f"{job.id}.json"
    wait_for(spooled.exists, what="a spooled receipt")
    rig.service.receipts.clear()
    assert task.wait(30) == 0
    rig.kill()
    assert spooled.exists()
    rig.service.receipts.clear()
    rig.service.lose_answers.clear()
    rig.start()
    assert rig.receipt(job)["outcome"] == "ended"
    wait_for(lambda: not spooled.exists(), what="an empty spool")
    assert rig.is_clean(job)


@pytest.mark.parametrize("status", [422, 500])
def test_a_refused_receipt_delays_no_other(rig: Rig, status: int) -> None:
    """Low of H9: 422, for instance for a newer agent's outcome, or a service that fails at it."""
    poisoned, other = rig.job("echo x"), rig.job("echo y")
    rig.service.refused_ends[poisoned.key] = status
    for job in (poisoned, other):
        assert rig.stage_in(job) == 0
        rig.run_container(job).wait(timeout=20)
    assert rig.stage_out(poisoned) == 0
    assert rig.stage_out(other) == 0
    assert rig.receipt(other)["outcome"] == "ended"
    assert poisoned.key not in rig.service.receipts
    assert (rig.node_dir / "receipts" / f"{poisoned.id}.json").exists()
    # It is delivered once the service accepts it.
    rig.service.refused_ends.clear()
    rig.kill()
    rig.start()
    assert rig.receipt(poisoned)["outcome"] == "ended"


def test_an_attempt_is_held_until_its_receipt_is_delivered(rig: Rig) -> None:
    """M3: otherwise the service would abandon it and run it again, though it is done."""
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    job = rig.job("echo x")
    assert rig.stage_in(job) == 0
    rig.run_container(job).wait(timeout=20)
    rig.service.refused_ends[job.key] = 503
    assert rig.stage_out(job) == 0
    assert rig.is_clean(job)
    reported = rig.service.count("node-report")

    def held() -> list[dict[str, object]]:
        reports = [body for name, body in rig.service.calls if name == "node-report"]
        assert len(reports) > reported
        return list(reports[-1]["attempts"])

    wait_for(lambda: rig.service.count("node-report") > reported + 2, what="reports")
    assert held() == [{"jobid": job.job, "attempt": 1}]
    rig.service.refused_ends.clear()
    rig.receipt(job)
    wait_for(lambda: held() == [], what="it is over")


def test_agent_killed_in_the_middle_of_stage_out(rig: Rig) -> None:
    job = rig.job(
        "for i in $(seq 300); do echo $i >f$i; done; dd if=/dev/zero of=big bs=1M count=200"
    )
    assert rig.stage_in(job) == 0
    rig.run_container(job).wait(timeout=30)
    task = rig.stage("out", job)
    # During the upload: a part of the output is there.
    wait_for(lambda: len(rig.store.names(job.bucket)) > 2, what="the first output")
    rig.kill()
    assert job.key not in rig.service.receipts
    assert rig.state(job)["phase"] == "decided"
    assert task.poll() is None
    rig.start()
    assert task.wait(60) == 0
    receipt = rig.receipt(job)
    assert receipt["outcome"] == "ended"
    assert receipt["uploadedfiles"] == 303
    assert len(rig.store.names(job.bucket)) == 304
    assert rig.is_clean(job)


def test_agent_killed_in_the_middle_of_stage_in(rig: Rig) -> None:
    job = rig.job("echo ran")
    rig.service.lose_answers["attempt-start"] = 1_000
    task = rig.stage("in", job)
    wait_for(lambda: rig.service.count("attempt-start") > 0, what="attempt-start")
    rig.kill()
    rig.service.lose_answers.clear()
    rig.start()
    assert task.wait(30) == 0
    assert len({b["startkey"] for n, b in rig.service.calls if n == "attempt-start"}) == 1


def test_time_limit_survives_the_agent(rig: Rig) -> None:
    job = rig.job("sleep 60", timelimit=3)
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    rig.kill()
    time.sleep(3)
    rig.start()
    container.wait(timeout=10)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "time_limit"


def test_clean_up_after_an_agent_that_ended_after_the_receipt(rig: Rig) -> None:
    job = rig.job("echo x")
    assert rig.stage_in(job) == 0
    rig.run_container(job).wait(timeout=20)
    rig.kill()
    (rig.node_dir / "receipts" / f"{job.id}.json").write_text(
        f'{{"jobid": "{job.job}", "attempt": 1, "outcome": "ended", "exitcode": 0}}'
    )
    rig.start()
    assert rig.receipt(job)["outcome"] == "ended"
    assert rig.stage_out(job) == 0
    wait_for(lambda: rig.is_clean(job), what="clean")
    assert rig.service.count("attempt-upload") == 0


def test_left_overs_are_swept_at_start(rig: Rig) -> None:
    job, kept = rig.job("sleep 60"), rig.job("sleep 60")
    for one in (job, kept):
        assert rig.stage_in(one) == 0
        rig.run_container(one)
    rig.kill()
    (rig.node_dir / "attempts" / f"{job.id}.json").unlink()
    rig.start()
    wait_for(lambda: rig.is_clean(job), what="a swept container")
    assert not rig.is_clean(kept)


def test_a_full_disk_keeps_what_was_written(rig: Rig) -> None:
    rig.kill()
    rig.node_dir.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "x", str(rig.node_dir)], check=True)
    try:
        rig.start()
        job = rig.job("echo precious >result.txt; cat /dev/zero >fill; sleep 2; exit 0")
        assert rig.stage_in(job) == 0
        container = rig.run_container(job)
        assert (rig.node_dir / "ballast").exists()
        container.wait(timeout=30)
        assert rig.stage_out(job) == 0
        assert rig.receipt(job)["outcome"] == "ended"
        assert rig.store.get(job.bucket, "result.txt") == b"precious\n"
        assert rig.is_clean(job)
    finally:
        rig.kill()
        # The agent's Nomad ends a moment after the agent.
        unmount = ["umount", str(rig.node_dir)]
        wait_for(lambda: subprocess.run(unmount).returncode == 0, 10, "the disk is free")


def test_one_agent_a_folder(rig: Rig) -> None:
    first = rig.process
    rig.start(wait=False)
    assert rig.process
    assert rig.process.wait(20) == 73
    assert "already uses" in rig.log
    rig.process = first


def test_wrong_secret_ends_with_a_sentence(rig: Rig) -> None:
    rig.kill()
    rig.service.compute_secret, right = "lqc-other", rig.service.compute_secret
    rig.settings["LERULI_COMPUTE_SECRET"] = right
    rig.start(wait=False)
    assert rig.process
    assert rig.process.wait(20) == 77
    assert "the service refuses this node: the compute secret is not valid" in rig.log


def test_no_secret_and_no_bucket_in_the_log_or_on_disk(rig: Rig) -> None:
    job = rig.job("ln -s /etc/passwd p; echo x")
    broken = rig.job(run_tgz=b"no archive")
    rig.run(job)
    assert rig.stage_in(broken) != 0
    assert rig.stage_out(broken) == 0
    assert rig.stop() == 0
    secrets = [rig.store.secret, rig.group_token, rig.service.compute_secret, *rig.service.tokens]
    for secret in [*secrets, job.bucket, broken.bucket]:
        assert secret not in rig.log
    for path in rig.node_dir.rglob("*"):
        if path.is_file():
            assert all(secret.encode() not in path.read_bytes() for secret in secrets), path


def test_input_of_a_retried_attempt_is_unharmed(rig: Rig) -> None:
    run_tgz = pack({"x.txt": b"1"}, "echo evil >run.tgz; echo a >only-first")
    job = rig.job(run_tgz=run_tgz)
    receipt = rig.run(job)
    assert "1 file with a reserved name; joberr.txt has the names" in receipt["message"]
    assert b"run.tgz" in rig.store.get(job.bucket, "joberr.txt")
    assert rig.store.get(job.bucket, "run.tgz") == run_tgz
    second = type(job)(job.job, 2, job.bucket, job.alloc, job.grant)
    rig.service.grants[second.key] = job.grant
    rig.store.put(
        job.bucket, "run.tgz", pack({"x.txt": b"1"}, "mkdir only-first; echo b >only-first/b")
    )
    assert rig.run(second)["outcome"] == "ended"
    assert rig.store.names(job.bucket) == {
        "run.tgz",
        "joblog.txt",
        "joberr.txt",
        "only-first/b",
    }


def test_socket_is_private(rig: Rig) -> None:
    assert rig.socket.stat().st_mode & 0o777 == 0o600
    assert rig.socket.parent.stat().st_mode & 0o777 == 0o700
