"""The group token is rotated: jobs, both clients and the node go on, and a former member is out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_world import BIN, GATED, StackOfTest, forget_images, read_exports, running_stack, wait_for

from bench import pinned


@pytest.fixture(scope="module")
def own_stack() -> Iterator[StackOfTest]:
    with running_stack({"LERULI_QUEUE_NODE_REPORT_S": "1"}) as made:
        yield made
        forget_images(made)


def rotate(stack: StackOfTest) -> dict[str, Any]:
    """As an admin does it; returns what the client printed."""
    admin = read_exports(stack.data / "admin.sh")["LERULI_ADMIN_SECRET"]
    done = subprocess.run(
        [BIN / "leruli", "group", "rotate-token", "--yes", "--json"],
        env=stack.user | {"LERULI_ADMIN_SECRET": admin},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["finished"], done.stderr
    return answer


def run(stack: StackOfTest, folder: Path, name: str, command: str) -> str:
    """A job by our client, to its end; returns what it printed."""
    job = folder / name
    job.mkdir()
    stack.submit(job, command)
    assert stack.end(job) == ("completed", None)
    stack.get(job)
    return (job / "joblog.txt").read_text()


def test_everybody_goes_on_but_a_former_member(own_stack: StackOfTest, tmp_path: Path) -> None:
    """Issue 16, 2: a former member read the group's activity for ever."""
    stack = own_stack
    old = stack.secrets["group_token"]
    admin = read_exports(stack.data / "admin.sh")["LERULI_ADMIN_SECRET"]
    running = tmp_path / "running"
    running.mkdir()
    stack.submit(running, f"{GATED}; echo done > log")
    stack.wait_for_state(running, "running")

    # By curl alone: the images are in the bucket of the old token, and are found there.
    second = stack.call("group-rotate-token", adminsecret=admin).json()
    for call in ("group-activity", "group-usage", "group-nodes"):
        assert stack.call(call, grouptoken=old).status_code == 403
        assert stack.call(call, grouptoken=second).status_code == 200
    assert run(stack, tmp_path, "curl", "echo by curl") == "by curl\n"
    assert stack.end_gated(running) == ("completed", None)

    # By the client: the images move. Twice, as the first goes on with the rotation by curl.
    for number in range(2):
        answer = rotate(stack)
        assert answer["new"] == (number == 1)
        assert run(stack, tmp_path, f"moved-{number}", "echo moved") == "moved\n"
    newest = answer["grouptoken"]
    assert newest not in (old, second)
    assert stack.call("group-activity", grouptoken=second).status_code == 403


def test_images_are_published_after_a_rotation(own_stack: StackOfTest, tmp_path: Path) -> None:
    stack = own_stack
    rotate(stack)
    for command in ("publish-code", "list-codes"):
        words = ["leruli-test-user", "1"] if command == "publish-code" else []
        done = stack.leruli(tmp_path, command, *words)
        assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["leruli-test:1", "leruli-test-user:1"]
    job = tmp_path / "published"
    job.mkdir()
    stack.submit(job, "echo published", image="leruli-test-user:1")
    assert stack.end(job) == ("completed", None)


def test_the_published_client_goes_on(own_stack: StackOfTest, tmp_path: Path) -> None:
    stack = own_stack
    client, job = pinned.published_client(), tmp_path / "by-the-published-client"
    rotate(stack)
    job.mkdir()

    def leruli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [client, *arguments], cwd=job, env=stack.user, capture_output=True, text=True
        )

    assert "Traceback" not in leruli("task-publish-code", "leruli-test", "1").stderr
    assert "leruli-test:1" in leruli("task-list-codes").stdout.split()
    (job / "input.dat").write_text("42")
    leruli("task-submit", "leruli-test", "1", "cat", "input.dat")
    wait_for(lambda: (job / "leruli.job").exists(), seconds=10, what="it is submitted")
    assert stack.end(job) == ("completed", None)
    leruli("task-get")
    assert (job / "joblog.txt").read_text() == "42"


def test_the_next_start_of_the_stack_has_the_new_token(
    own_stack: StackOfTest, tmp_path: Path
) -> None:
    stack = own_stack
    newest = rotate(stack)["grouptoken"]
    stack.down()
    stack.up()
    assert stack.secrets["group_token"] == newest
    assert run(stack, tmp_path, "again", "echo again") == "again\n"
