"""Slots with a real Nomad: short jobs go through a few allocations, and each runs exactly once."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e_world import StackOfTest, forget_images, read_exports, wait_for

IMAGES = ("leruli-test:1", "leruli-test-user:1")


@pytest.fixture(scope="module")
def slots() -> Iterator[StackOfTest]:
    """A stack with slots, and one node of two cores."""
    folder = Path(tempfile.mkdtemp(prefix="leruli-e2e-"))
    settings = {
        "LERULI_QUEUE_SLOT_MAX_S": "300",
        "LERULI_NODE_CORES": "2",
        "LERULI_NODE_GRACE_SECONDS": "2",
    }
    made = StackOfTest(folder / "data", settings)
    try:
        made.up()
        for image in IMAGES:
            done = made.leruli(folder, "publish-code", *image.split(":"))
            assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.down()
        forget_images(made)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def other_user(slots: StackOfTest) -> str:
    """The API secret of a second user of the group."""
    admin = read_exports(slots.data / "admin.sh")["LERULI_ADMIN_SECRET"]
    answer = slots.call("group-create-user", adminsecret=admin, name="other", admin=False)
    assert answer.status_code == 200, answer.text
    return str(answer.json())


def submit(
    stack: StackOfTest, folder: Path, command: str, image: str = IMAGES[0], **settings: str
) -> str:
    folder.mkdir()
    arguments = ("task-submit", "--memory", "100", *image.split(":"), command)
    done = stack.leruli(folder, *arguments, **settings)
    assert done.returncode == 0, done.stderr
    return (folder / "leruli.job").read_text().strip()


def submit_mixed(stack: StackOfTest, folder: Path, other_user: str, count: int) -> dict[str, Path]:
    """Submit short jobs of two users and two images, each with its own output.

    Two jobs of some seconds take the node meanwhile, so that the others wait in the backlog.
    """
    jobs = {}
    for number in range(2):
        submit(stack, folder / f"first-{number}", "sleep 8")
    for number in range(count):
        path = folder / f"job-{number % 4}-{number}"
        path.mkdir()
        (path / "number").write_text(f"{number}\n")
    for kind in range(4):
        arguments = ("--batch", f"job-{kind}-*", "--memory", "100", *IMAGES[kind // 2].split(":"))
        command = "cat number >> counted; cat counted"
        settings = {"LERULI_API_SECRET": other_user} if kind % 2 else {}
        done = stack.leruli(folder, "task-submit", *arguments, command, **settings)
        assert done.returncode == 0, done.stderr
    for number in range(count):
        path = folder / f"job-{number % 4}-{number}"
        jobs[(path / "leruli.job").read_text().strip()] = path
    return jobs


def attempts(stack: StackOfTest, job_ids: list[str]) -> list[Any]:
    return stack.fetch(
        "SELECT a.*, j.state FROM attempts a JOIN jobs j ON j.id = a.job_id "
        "WHERE a.job_id = ANY($1::uuid[])",
        job_ids,
    )


def wait_for_all(stack: StackOfTest, job_ids: list[str], seconds: float) -> None:
    def left() -> int:
        [row] = stack.fetch(
            "SELECT count(*) AS n FROM jobs WHERE id = ANY($1::uuid[]) "
            "AND state NOT IN ('completed', 'failed', 'cancelled')",
            job_ids,
        )
        return int(row["n"])

    wait_for(lambda: left() == 0, seconds=seconds, what="all jobs have ended")


def assert_each_ran_once(stack: StackOfTest, jobs: dict[str, Path], other_user: str) -> None:
    """Each job ended well, and has the output of one run of its own command."""
    rows = attempts(stack, list(jobs))
    assert {row["state"] for row in rows} == {"completed"}
    for number, folder in enumerate(jobs.values()):
        if number < 4:
            settings = {"LERULI_API_SECRET": other_user} if number % 2 else {}
            words = ("task-get", "--batch", f"job-{number}-*")
            done = stack.leruli(folder.parent, *words, **settings)
            assert done.returncode == 0, done.stderr
        assert (folder / "joblog.txt").read_text() == f"{number}\n"
        assert (folder / "counted").read_text() == f"{number}\n"


def test_short_jobs_of_two_users_and_two_images_go_through_few_allocations(
    slots: StackOfTest, other_user: str, tmp_path: Path
) -> None:
    jobs = submit_mixed(slots, tmp_path, other_user, 30)
    wait_for_all(slots, list(jobs), 240)
    assert_each_ran_once(slots, jobs, other_user)
    rows = attempts(slots, list(jobs))
    ended = [row for row in rows if row["outcome"]]
    assert len(ended) == len(jobs)
    # The others were dispatched, or granted ahead, and given to a slot instead.
    assert all(row["started_at"] is None or row["message"] for row in rows if not row["outcome"])
    assert len([row for row in ended if row["slot_job"] is not None]) >= len(jobs) // 2
    idle = "SELECT FROM attempts WHERE ended_at IS NULL"
    assert slots.fetch(idle) == []
    node = slots.data / "node"
    for left in ("slots", "attempts", "receipts"):
        wait_for(
            lambda left=left: not list((node / left).iterdir()),  # type: ignore[misc]
            seconds=30,
            what=f"no file is left in {left}",
        )


def test_agent_and_nomad_are_killed_in_between(
    slots: StackOfTest, other_user: str, tmp_path: Path
) -> None:
    jobs = submit_mixed(slots, tmp_path, other_user, 30)
    further = "SELECT FROM attempts WHERE job_id = ANY($1::uuid[]) AND slot_job IS NOT NULL"
    wait_for(
        lambda: len(slots.fetch(further, list(jobs))) >= 4,
        seconds=120,
        what="slots run further attempts",
    )
    before = slots.pid_of("node")
    for child in psutil.Process(before).children():
        if "nomad" in child.name():
            child.kill()
    time.sleep(4)
    slots.kill("node")
    wait_for(lambda: slots.pid_of("node") != before, seconds=20, what="the agent is there again")
    wait_for_all(slots, list(jobs), 300)
    assert_each_ran_once(slots, jobs, other_user)


def test_a_further_attempt_is_cancelled_while_it_runs(slots: StackOfTest, tmp_path: Path) -> None:
    # More than Nomad's window takes, so that slots run jobs of the backlog.
    for number in range(2):
        submit(slots, tmp_path / f"first-{number}", "sleep 6")
    for number in range(12):
        (tmp_path / f"long-{number}").mkdir()
    words = ("--batch", "long-*", "--memory", "100", *IMAGES[0].split(":"))
    done = slots.leruli(tmp_path, "task-submit", *words, "echo begun; sleep 300")
    assert done.returncode == 0, done.stderr
    folders = {(path / "leruli.job").read_text().strip(): path for path in tmp_path.glob("long-*")}
    running = (
        "SELECT j.id, a.slot_job FROM jobs j JOIN attempts a ON a.job_id = j.id "
        "AND a.number = j.attempt WHERE j.state = 'running' AND j.id = ANY($1::uuid[])"
    )
    wait_for(
        lambda: (
            len(found := slots.fetch(running, list(folders))) == 2
            and any(row["slot_job"] for row in found)
        ),
        seconds=120,
        what="a further attempt runs",
    )
    found = slots.fetch(running, list(folders))
    cancelled = next(str(row["id"]) for row in found if row["slot_job"])
    other = next(str(row["id"]) for row in found if str(row["id"]) != cancelled)
    began = time.monotonic()
    assert slots.leruli(folders[cancelled], "task-cancel").returncode == 0
    slots.wait_for_state(folders[cancelled], "cancelled", seconds=60)
    assert time.monotonic() - began < 20
    slots.get(folders[cancelled])
    assert (folders[cancelled] / "joblog.txt").read_text() == "begun\n"
    # The other slot went on, and the place of the cancelled job was used again.
    assert slots.status(folders[other])[0] == "running"
    wait_for(
        lambda: len(slots.fetch(running, list(folders))) == 2, seconds=60, what="the next one runs"
    )
    for folder in folders.values():
        slots.leruli(folder, "task-cancel")
    wait_for_all(slots, list(folders), 120)


def test_nothing_is_left_of_the_slots(slots: StackOfTest) -> None:
    """Runs last: no container of the node is left when nothing runs."""
    [node] = slots.fetch("SELECT id FROM nodes")
    listing = ("docker", "ps", "-aq", "--filter", f"label=leruli.node={node['id']}")

    def left() -> str:
        return subprocess.run(listing, capture_output=True, text=True, check=True).stdout

    wait_for(lambda: left() == "", seconds=60, what="no container is left")
