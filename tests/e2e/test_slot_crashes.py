"""Every part is killed while slots run further attempts, fresh and shared: each job ends once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from e2e_world import FINAL, GATED, StackOfTest, another_node, running_stack, wait_for

SETTINGS = {
    "LERULI_QUEUE_SLOT_MAX_S": "300",
    "LERULI_QUEUE_NODE_REPORT_S": "1",
    "LERULI_QUEUE_RETRY_DELAY_S": "1",
    "LERULI_NODE_CORES": "2",
    "LERULI_NODE_GRACE_SECONDS": "2",
}
# Jobs of each kind. Two run, so most of them are further attempts.
JOBS = 8
COMMAND = "echo $LERULI_JOBID >>counted; sleep 0.5; cat number"


@pytest.fixture(scope="module")
def slots() -> Iterator[StackOfTest]:
    with running_stack(SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def quick() -> Iterator[StackOfTest]:
    """A stack that quickly abandons attempts on silent nodes."""
    with running_stack({**SETTINGS, "LERULI_QUEUE_NODE_SILENCE_S": "5"}) as made:
        yield made


def submit(stack: StackOfTest, folder: Path, count: int, command: str, *options: str) -> list[Path]:
    """Submit a batch; return the folders of its jobs."""
    for number in range(count):
        (folder / f"job-{number}").mkdir(parents=True)
        (folder / f"job-{number}/number").write_text(f"{number}\n")
    words = ("task-submit", "--batch", "job-*", "--memory", "100", *options)
    done = stack.leruli(folder, *words, "leruli-test", "1", command)
    assert done.returncode == 0, done.stderr
    return [folder / f"job-{number}" for number in range(count)]


def job_of(folder: Path) -> str:
    return (folder / "leruli.job").read_text().strip()


def begin(stack: StackOfTest, folder: Path) -> list[Path]:
    """Submit jobs for fresh and for shared containers; return when slots run some of them."""
    folders = submit(stack, folder / "fresh", JOBS, COMMAND)
    folders += submit(stack, folder / "shared", JOBS, COMMAND, "--share-container")
    further = (
        "SELECT FROM attempts WHERE job_id = ANY($1::uuid[]) "
        "AND slot_job IS NOT NULL AND started_at IS NOT NULL"
    )
    wait_for(
        lambda: len(stack.fetch(further, [job_of(one) for one in folders])) >= 3,
        seconds=120,
        what="slots run further attempts",
    )
    return folders


def check_each_ended_once(stack: StackOfTest, folders: list[Path]) -> None:
    """Each job has completed in its only counted attempt, with the output of one own run."""
    jobs = [job_of(folder) for folder in folders]
    left = "SELECT FROM jobs WHERE id = ANY($1::uuid[]) AND state::text <> ALL($2::text[])"
    wait_for(
        lambda: stack.fetch(left, jobs, list(FINAL)) == [], seconds=240, what="all jobs have ended"
    )
    rows = stack.fetch(
        "SELECT j.state::text, j.lost_attempts, count(a.outcome) AS ends FROM jobs j "
        "JOIN attempts a ON a.job_id = j.id WHERE j.id = ANY($1::uuid[]) GROUP BY j.id",
        jobs,
    )
    assert {tuple(row) for row in rows} == {("completed", 0, 1)}
    for batch in {folder.parent for folder in folders}:
        fetched = stack.leruli(batch, "task-get", "--batch", "job-*")
        assert fetched.returncode == 0, fetched.stderr
    for folder in folders:
        assert (folder / "counted").read_text() == f"{job_of(folder)}\n"
        assert (folder / "joblog.txt").read_text() == (folder / "number").read_text()


def check_nothing_is_left(stack: StackOfTest) -> None:
    node = stack.data / "node"
    for left in ("slots", "attempts", "receipts"):
        wait_for(
            lambda left=left: not list((node / left).iterdir()),  # type: ignore[misc]
            seconds=60,
            what=f"no file is left in {left}",
        )


def child_of(parent: psutil.Process, name: str) -> psutil.Process:
    """The child of a process with this name, which may be starting again."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = [child for child in parent.children() if name in child.name()]
        return bool(found)

    wait_for(is_there, seconds=40, what=f"{name} runs")
    return found[0]


def client_of(stack: StackOfTest) -> psutil.Process:
    """The Nomad client of the stack's node."""
    return child_of(psutil.Process(stack.pid_of("node")), "nomad")


def kill(stack: StackOfTest, part: str) -> None:
    """Kill a part with SIGKILL. Each is started again by its parent."""
    if part == "Nomad client":
        client_of(stack).kill()
    elif part == "task driver":
        child_of(client_of(stack), "leruli").kill()
    else:
        before = stack.pid_of(part)
        stack.kill(part)
        wait_for(lambda: stack.pid_of(part) != before, seconds=40, what=f"{part} runs again")


@pytest.mark.parametrize(
    "part",
    [
        "PostgreSQL",
        "service",
        "dispatcher",
        "Nomad server",
        "object store",
        "node",
        "Nomad client",
        "task driver",
    ],
)
def test_a_part_is_killed_while_slots_run_further_attempts(
    slots: StackOfTest, tmp_path: Path, part: str
) -> None:
    folders = begin(slots, tmp_path)
    for _ in range(2):
        kill(slots, part)
        time.sleep(2)
    check_each_ended_once(slots, folders)
    check_nothing_is_left(slots)


@contextmanager
def frozen(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop processes inside the block: they hang."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("part", ["PostgreSQL", "service"])
def test_a_part_hangs_while_slots_run_further_attempts(
    slots: StackOfTest, tmp_path: Path, part: str
) -> None:
    """Receipts stay on the node's disk meanwhile, and each slot waits with its question."""
    folders = begin(slots, tmp_path)
    process = psutil.Process(slots.pid_of(part))
    with frozen([process, *process.children(recursive=True)]):
        time.sleep(15)
    check_each_ended_once(slots, folders)
    check_nothing_is_left(slots)


@pytest.mark.parametrize("options", [(), ("--share-container",)], ids=["fresh", "shared"])
def test_a_node_is_lost_with_a_further_attempt(
    quick: StackOfTest, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """It runs again on another node. The lost one uploads nothing when it is back."""
    first = submit(quick, tmp_path / "first", 2, GATED, *options)
    for folder in first:
        quick.wait_for_state(folder, "running", seconds=120)
    waiting = submit(quick, tmp_path, 10, f"hostname >host; {GATED}; cat host", *options)
    for folder in first:
        assert quick.end_gated(folder) == ("completed", None)
    running = (
        "SELECT j.id FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt "
        "WHERE j.state = 'running' AND a.slot_job IS NOT NULL AND j.id = ANY($1::uuid[])"
    )
    gated = {job_of(folder): folder for folder in waiting}
    wait_for(
        lambda: quick.fetch(running, list(gated)) != [], seconds=120, what="a further attempt runs"
    )
    [lost, *_] = [str(row["id"]) for row in quick.fetch(running, list(gated))]
    with ExitStack() as until_the_end:
        agent = psutil.Process(quick.pid_of("node"))
        with frozen([agent, client_of(quick)]):
            for job, folder in gated.items():
                if job != lost:
                    quick.leruli(folder, "task-cancel")
            second = {"LERULI_NODE_CORES": "1"}
            until_the_end.enter_context(another_node(quick, "second", **second))
            reason = quick.wait_for_state(gated[lost], "received", seconds=120)
            assert reason is not None
            assert reason.startswith("its node does not answer; it will run again")
            quick.wait_for_state(gated[lost], "running")
        check_nothing_is_left(quick)
        assert quick.end_gated(gated[lost], node="second") == ("completed", None)
    quick.get(gated[lost])
    host = (gated[lost] / "joblog.txt").read_text()
    assert (gated[lost] / "host").read_text() == host
    # An attempt that waited in Nomad may have been before that of the slot.
    attempts = quick.fetch(
        "SELECT outcome, message, slot_job FROM attempts WHERE job_id = $1::uuid ORDER BY number",
        lost,
    )
    assert [row["outcome"] for row in attempts if row["outcome"]] == ["ended"]
    assert attempts[-2]["slot_job"] is not None
    assert attempts[-2]["message"] == "its node does not answer"
