"""The stack's own life: stopped, started again, killed; what it leaves behind and what it shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2e_world import BIN, GATED, StackOfTest, wait_for

WHO_MAY_READ = 0o077


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[StackOfTest]:
    made = StackOfTest(tmp_path / "data", {"LERULI_NODE_GRACE_SECONDS": "2"})
    made.up()
    done = made.leruli(tmp_path, "publish-code", "leruli-test", "1")
    assert done.returncode == 0, done.stderr
    yield made
    subprocess.run([BIN / "leruli-queue", "down", "--data", made.data], check=False)
    shutil.rmtree(made.data)


def processes_of(stack: StackOfTest) -> list[str]:
    """Command lines that name the stack's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(stack.data) in line and process.info["pid"] != os.getpid():
            found.append(line)
    return found


def containers_of(stack: StackOfTest) -> str:
    node_id = json.loads((stack.data / "node" / "node.json").read_text())
    label = f"label=leruli.node={next(value for key, value in node_id.items() if 'id' in key)}"
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", label], capture_output=True, text=True
    )
    return listed.stdout


def mounts_of(stack: StackOfTest) -> list[str]:
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if str(stack.data) in line]


def test_down_leaves_nothing_over_and_up_goes_on_where_it_was(
    own_stack: StackOfTest, tmp_path: Path
) -> None:
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    for folder in (running, waiting):
        folder.mkdir()
    own_stack.submit(running, f"echo begun; {GATED}; echo done", "--cores", "2")
    own_stack.wait_for_state(running, "running")
    own_stack.submit(waiting, "true", "--cores", "2")
    own_stack.wait_for_state(waiting, "submitted")
    assert processes_of(own_stack)

    own_stack.down()
    assert processes_of(own_stack) == []
    assert containers_of(own_stack) == ""
    assert mounts_of(own_stack) == []
    sockets = [path for path in own_stack.data.rglob("*") if path.is_socket()]
    assert sockets == []
    # What is being removed is in .trash; the next start goes on with it. The folder of shared
    # containers stays, and is empty.
    jobs = own_stack.data / "node" / "jobs"
    assert {one.name for one in jobs.iterdir()} <= {".trash", ".shared"}
    assert not (jobs / ".shared").exists() or not any((jobs / ".shared").iterdir())
    own_stack.down()  # again: nothing to do

    own_stack.up()
    # The one that ran went back to the queue, and it was nobody's fault.
    assert own_stack.end_gated(running) == ("completed", None)
    assert own_stack.end(waiting) == ("completed", None)
    own_stack.get(running)
    assert (running / "joblog.txt").read_text() == "begun\ndone\n"
    lost = own_stack.fetch("SELECT sum(lost_attempts) AS lost FROM jobs")
    assert lost[0]["lost"] == 0


def test_a_stack_that_was_killed_takes_its_parts_along_and_starts_again(
    own_stack: StackOfTest, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    own_stack.submit(folder, f"{GATED}; echo done")
    own_stack.wait_for_state(folder, "running")
    os.kill(int((own_stack.data / "up.lock").read_text()), signal.SIGKILL)
    wait_for(
        lambda: not any("leruli_queue" in line for line in processes_of(own_stack)),
        seconds=30,
        what="the parts ended with the stack",
    )
    own_stack.up()
    assert own_stack.end_gated(folder) == ("completed", None)


@pytest.mark.parametrize("options", [[], ["--detach"]])
def test_a_folder_has_one_stack(stack: StackOfTest, options: list[str]) -> None:
    log = (stack.data / "logs" / "up.log").read_text()
    second = subprocess.run(
        [BIN / "leruli-queue", "up", "--data", stack.data, *options], capture_output=True, text=True
    )
    assert second.returncode == 3
    assert second.stderr.count("A stack is up already") == 1
    assert (stack.data / "logs" / "up.log").read_text() == log


def test_a_data_folder_that_cannot_be_made_is_said() -> None:
    done = subprocess.run(
        [BIN / "leruli-queue", "up", "--data", "/proc/nope"], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "The data folder /proc/nope cannot be made" in done.stderr


def test_a_port_that_is_taken_is_said(stack: StackOfTest, tmp_path: Path) -> None:
    taken = stack.user["LERULI_BASEURL"].rsplit(":", 1)[1]
    second = subprocess.run(
        [BIN / "leruli-queue", "up", "--data", tmp_path / "other", "--port", taken],
        capture_output=True,
        text=True,
    )
    assert second.returncode == 3
    assert f"Port {taken} is taken by another program" in second.stderr


def test_what_is_missing_is_said_all_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "leruli-queue", "up", "--data", tmp_path / "other"],
        env={
            "PATH": "/usr/bin:/bin",
            "LERULI_QUEUE_NOMAD": "/nowhere/nomad",
            "LERULI_QUEUE_DRIVER": "/nowhere/leruli-driver",
            "LERULI_QUEUE_RUNNER": "/nowhere/leruli-runner",
            "DOCKER_HOST": f"unix://{tmp_path}/no.sock",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "- nomad" in done.stderr
    assert "- leruli-driver" in done.stderr
    assert "- leruli-runner" in done.stderr
    assert "- Docker: nothing answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_holds_secrets_is_private(stack: StackOfTest) -> None:
    for name in ("secrets.json", "env.sh", "admin.sh", "started.json"):
        mode = (stack.data / name).stat().st_mode
        assert mode & WHO_MAY_READ == 0, name
