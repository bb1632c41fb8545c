"""How jobs end, with real containers: the receipt and the objects in the bucket."""

from __future__ import annotations

import os
import time

import pytest
from node_rig import Rig, wait_for


def test_success(rig: Rig) -> None:
    job = rig.job(
        # Docker's start and end of a container of a few milliseconds can be equal.
        "cat in/x.txt > out.txt; echo hello; echo oops >&2; mkdir -p 'a b/ü'; echo 1 >'a b/ü/1'; "
        "sleep 0.2",
        {"in/x.txt": b"42"},
    )
    receipt = rig.run(job)
    assert receipt["outcome"] == "ended"
    assert receipt["exitcode"] == 0
    assert receipt["message"] is None
    assert rig.store.names(job.bucket) == {
        "run.tgz",
        "out.txt",
        "joblog.txt",
        "joberr.txt",
        "a b/ü/1",
    }
    assert rig.store.get(job.bucket, "out.txt") == b"42"
    assert rig.store.get(job.bucket, "joblog.txt") == b"hello\n"
    assert rig.store.get(job.bucket, "joberr.txt") == b"oops\n"
    assert receipt["uploadedfiles"] == 4
    assert receipt["uploadedbytes"] == 2 + 6 + 5 + 2
    assert 0 < receipt["wallseconds"] < 20
    assert rig.is_clean(job)


def test_exit_code(rig: Rig) -> None:
    receipt = rig.run(rig.job("exit 3"))
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 3)


def test_cpu_time_and_peak_memory(rig: Rig) -> None:
    job = rig.job(
        "x=$(head -c 40000000 /dev/zero | tr '\\0' x); "
        # Four seconds of CPU time in hundredths, however long that takes.
        "until read -ra of </proc/$$/stat; [ $((of[13] + of[14])) -ge 400 ]; do :; done"
    )
    receipt = rig.run(job)
    assert receipt["cpuseconds"] > 1.5
    assert 30 <= receipt["peakmemorymb"] <= 256


# Prints what the kernel counted for the container: CPU microseconds, bytes without page cache.
COUNTERS = r"""
v2=/sys/fs/cgroup v1=/sys/fs/cgroup/memory
if [ -e $v2/cpu.stat ]; then
    cpu=$(sed -n 's/^usage_usec //p' $v2/cpu.stat)
    used=$(cat $v2/memory.current) parts=$v2/memory.stat
else
    cpu=$(($(cat $v2/cpuacct/cpuacct.usage) / 1000))
    used=$(cat $v1/memory.usage_in_bytes) parts=$v1/memory.stat
fi
while read -r name bytes; do
    case $name in active_file | inactive_file) used=$((used - bytes)) ;; esac
done <$parts
echo "$cpu $used"
"""


@pytest.mark.parametrize(
    "until",
    [
        # Hardly sampled. Hundredths of a second of CPU time, however long that takes.
        "read -ra of </proc/$BASHPID/stat; [ $((of[13] + of[14])) -ge 100 ]",
        # Sampled. Longer than a short job is.
        "[ $SECONDS -ge 7 ]",
    ],
    ids=["short", "sampled"],
)
def test_what_a_job_used_is_what_its_cgroup_counted(rig: Rig, until: str) -> None:
    """Within 5 %. 200 MB of files that it wrote are page cache, and no memory that it needs."""
    job = rig.job(
        "head -c 200000000 /dev/zero >file; cat file >/dev/null\n"
        # tail holds what it reads in its memory until the end.
        "{ head -c 150000000 /dev/zero; until " + until + "; do :; done; . ./counters >&2; } |\n"
        "    tail -c 150000000 >/dev/null",
        {"counters": COUNTERS.encode()},
        memorymb=500,
    )
    receipt = rig.run(job)
    assert receipt["outcome"] == "ended", receipt
    cpu, used = map(int, rig.store.get(job.bucket, "joberr.txt").split())
    assert receipt["cpuseconds"] == pytest.approx(cpu / 1e6, rel=0.05)
    assert receipt["peaknocachemb"] == pytest.approx(used / 2**20, rel=0.05)
    assert receipt["peakmemorymb"] > receipt["peaknocachemb"] + 100
    assert 190 <= receipt["diskmb"] < 200


def test_processes_that_nobody_waits_for_count(rig: Rig) -> None:
    """The shell's own sum misses them. There is no sample either."""
    job = rig.job(
        "(while :; do :; done) & until read -ra of </proc/$!/stat; [ $((of[13] + of[14])) -ge 50 ]"
        "; do sleep 0.1; done"
    )
    assert rig.stage_in(job) == 0
    rig.kill()
    rig.run_container(job).wait(timeout=60)
    rig.start()
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["cpuseconds"] >= 0.5


def test_a_receipt_says_how_long_each_phase_took(rig: Rig) -> None:
    receipt = rig.run(rig.job("true", {"in": os.urandom(5_000_000)}))
    assert receipt["imageseconds"] >= 0
    assert 0 < receipt["inputseconds"] < 60
    assert 0 < receipt["outputseconds"] < 60
    # Input takes disk too, though it is not uploaded again.
    assert 5 <= receipt["diskmb"] <= 6


def test_resources_of_a_job_that_no_agent_saw_run(rig: Rig) -> None:
    """Like a job of half a second: there is no sample of it."""
    job = rig.job("x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}")
    assert rig.stage_in(job) == 0
    rig.kill()
    state = rig.state(job)
    rig.run_container(job).wait(timeout=60)
    rig.start()
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert 57 <= receipt["peakmemorymb"] <= 256
    assert receipt["cpuseconds"] == round(receipt["cpuseconds"], 2) > 0
    # From before the restart of the agent.
    assert state["input_seconds"] > 0
    assert receipt["inputseconds"] == round(state["input_seconds"], 3)
    assert receipt["imageseconds"] == round(state["image_seconds"], 3)


def test_a_job_knows_its_id_and_resources(rig: Rig) -> None:
    job = rig.job('echo "$LERULI_JOBID $LERULI_CORES $LERULI_MEMORYMB"', memorymb=123)
    assert rig.run(job)["outcome"] == "ended"
    assert rig.store.get(job.bucket, "joblog.txt") == f"{job.job} 1 123\n".encode()


def test_a_job_knows_its_batch(rig: Rig) -> None:
    """An older service does not name it."""
    of_batch, without = [rig.job("echo ${LERULI_BATCH-none}") for _ in range(2)]
    of_batch.grant["batch"] = "b1"
    for job, batch in ((of_batch, b"b1\n"), (without, b"none\n")):
        assert rig.run(job)["outcome"] == "ended"
        assert rig.store.get(job.bucket, "joblog.txt") == batch


def test_empty_output(rig: Rig) -> None:
    job = rig.job("true")
    assert rig.run(job)["uploadedfiles"] == 2
    assert rig.store.get(job.bucket, "joblog.txt") == b""
    assert rig.store.get(job.bucket, "joberr.txt") == b""


def test_time_limit_of_a_process_that_ignores_term(rig: Rig) -> None:
    job = rig.job("trap '' TERM; echo begun; while :; do sleep 1; done", timelimit=2)
    started = time.monotonic()
    receipt = rig.run(job)
    assert receipt["outcome"] == "time_limit"
    assert receipt["message"] is None  # the service has its own sentence for it
    # The limit, two seconds of grace, and at most a second for each tick.
    assert 3.5 < receipt["wallseconds"] < 8
    assert time.monotonic() - started < 20
    assert rig.store.get(job.bucket, "joblog.txt") == b"begun\n"
    assert b"time limit of 2 s reached" in rig.store.get(job.bucket, "joberr.txt")


def test_time_limit_lets_a_process_end_normally(rig: Rig) -> None:
    job = rig.job("trap 'echo saved; exit 0' TERM; sleep 60 & wait", timelimit=2)
    receipt = rig.run(job)
    assert receipt["outcome"] == "time_limit"
    assert rig.store.get(job.bucket, "joblog.txt") == b"saved\n"


def test_out_of_memory(rig: Rig) -> None:
    job = rig.job("exec tail /dev/zero", memorymb=64)
    receipt = rig.run(job)
    assert receipt["outcome"] == "out_of_memory"
    assert receipt["message"] is None
    assert b"killed: used more than 64 MB" in rig.store.get(job.bucket, "joberr.txt")


def test_out_of_memory_of_a_child_process(rig: Rig) -> None:
    receipt = rig.run(rig.job("tail /dev/zero; echo went on", memorymb=64))
    assert receipt["outcome"] == "out_of_memory"


def test_stopped_by_nomad(rig: Rig) -> None:
    job = rig.job("sleep 60")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    time.sleep(1)
    container.kill("TERM")
    container.wait(timeout=20)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "stopped"


def test_killed_from_outside_without_term(rig: Rig) -> None:
    job = rig.job("sleep 60")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    time.sleep(1)
    container.kill("KILL")
    container.wait(timeout=20)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "stopped"


def test_a_job_that_ends_its_own_group_is_not_stopped(rig: Rig) -> None:
    job = rig.job(
        "trap 'kill 0' EXIT; sleep 100 & echo result >result.txt; (sleep 0.2; sleep 0) & wait $!"
    )
    receipt = rig.run(job)
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 143)
    assert rig.store.get(job.bucket, "result.txt") == b"result\n"
    assert rig.store.get(job.bucket, "joberr.txt") == b""


def test_a_stop_reaches_all_processes_and_leaves_no_zombies(rig: Rig) -> None:
    job = rig.job(
        "trap 'sleep 0.3; echo ended; exit 7' TERM\n"
        "set -m\n"
        "sh -c 'trap \"echo heard >heard; exit\" TERM; while :; do sleep 0.1; done' &\n"
        "set +m\n"
        "for i in 1 2 3; do (sleep 0.1 & exec sleep 0) & done\n"
        "sleep 1; echo ready >ready\n"
        "while :; do sleep 0.1; done"
    )
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    wait_for((rig.node_dir / "jobs" / job.name / "rundir" / "ready").exists, what="the job")
    top = container.top(ps_args="-eo pid,stat")
    assert not [line for line in top["Processes"] if line[1].startswith("Z")], top
    container.kill("TERM")
    assert container.wait(timeout=20)["StatusCode"] == 7
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "stopped"
    assert rig.store.get(job.bucket, "heard") == b"heard\n"
    assert rig.store.get(job.bucket, "joblog.txt") == b"ended\n"


def test_own_exit_code_137_is_the_jobs(rig: Rig) -> None:
    receipt = rig.run(rig.job("exit 137"))
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 137)


def test_never_started(rig: Rig) -> None:
    job = rig.job()
    assert rig.stage_in(job) == 0
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "node_trouble"
    assert rig.store.names(job.bucket) == {"run.tgz"}
    assert rig.is_clean(job)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ended"])
def test_marker_refuses_a_second_start(rig: Rig, killed: bool) -> None:
    job = rig.job("echo once >>log.txt; sleep 3; exit 5")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    wait_for(lambda: rig.state(job)["started_at"], what="the watcher to see the container")
    if killed:
        container.kill("KILL")
    container.wait(timeout=20)
    container.remove()
    again = rig.run_container(job)
    assert again.wait(timeout=20)["StatusCode"] == 122
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    # If the first run had ended, that would count.
    expected = ("node_trouble", None) if killed else ("ended", 5)
    assert (receipt["outcome"], receipt["exitcode"]) == expected
    assert rig.store.get(job.bucket, "log.txt") == b"once\n"


def test_container_that_still_runs_is_ended(rig: Rig) -> None:
    job = rig.job("sleep 60")
    assert rig.stage_in(job) == 0
    rig.run_container(job)
    time.sleep(0.5)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "stopped"
    assert rig.is_clean(job)


def test_a_container_that_was_pruned_after_its_end(rig: Rig) -> None:
    """Low: `docker system prune` while the agent is away removes containers, but no results."""
    jobs = [rig.job("echo result >out; exit 0"), rig.job("exit 3")]
    for job in jobs:
        assert rig.stage_in(job) == 0
        container = rig.run_container(job)
        rig.kill()
        container.wait(timeout=30)
        container.remove()
        rig.start()
        assert rig.stage_out(job) == 0
    receipts = [rig.receipt(job) for job in jobs]
    assert [(one["outcome"], one["exitcode"]) for one in receipts] == [("ended", 0), ("ended", 3)]
    assert rig.store.get(jobs[0].bucket, "out") == b"result\n"


def test_a_container_that_was_removed_while_it_ran(rig: Rig) -> None:
    job = rig.job("sleep 60")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    wait_for(lambda: rig.state(job)["started_at"], what="the watcher to see the container")
    container.remove(force=True)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "node_trouble"
