from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_world import StackOfTest, wait_for


def submit_for_seconds(stack: StackOfTest, folder: Path, command: str, seconds: int) -> None:
    """Submit by the Python module, as the command line takes time limits in minutes."""
    script = (
        "import leruli, sys; "
        f"leruli.task_submit('.', 'leruli-test', '1', sys.argv[1], timeseconds={seconds})"
    )
    subprocess.run([sys.executable, "-c", script, command], cwd=folder, env=stack.user, check=True)


def test_success_with_sub_folders_and_odd_names(stack: StackOfTest, folder: Path) -> None:
    (folder / "inputs" / "deep er").mkdir(parents=True)
    (folder / "inputs" / "deep er" / "größe µ.xyz").write_text("42")
    stack.submit(
        folder,
        'mkdir -p "out put/λ"; cp -r inputs "out put/λ"; : > empty.dat; '
        'echo "$OMP_NUM_THREADS $MKL_NUM_THREADS"; echo oops >&2; pwd > where',
        "--cores",
        "2",
    )
    assert stack.end(folder) == ("completed", None)
    stack.get(folder)
    copied = folder / "out put" / "λ" / "inputs" / "deep er" / "größe µ.xyz"
    assert copied.read_text() == "42"
    assert (folder / "empty.dat").read_bytes() == b""
    assert (folder / "joblog.txt").read_text() == "2 2\n"
    assert (folder / "joberr.txt").read_text() == "oops\n"
    assert (folder / "where").read_text() == "/rundir\n"


def test_an_exit_code_fails_the_job_and_its_output_is_there(
    stack: StackOfTest, folder: Path
) -> None:
    stack.submit(folder, "echo so far; exit 3")
    assert stack.end(folder) == ("failed", "its command ended with exit code 3")
    stack.get(folder)
    assert (folder / "joblog.txt").read_text() == "so far\n"


@pytest.mark.parametrize("command", ["sleep 600", "trap '' TERM; while :; do sleep 1; done"])
def test_the_time_limit_ends_it_and_its_output_is_there(
    stack: StackOfTest, folder: Path, command: str
) -> None:
    submit_for_seconds(stack, folder, f"echo begun; {command}", 3)
    assert stack.end(folder) == (
        "failed",
        "time limit of 3 s reached; output up to then was uploaded",
    )
    stack.get(folder)
    assert (folder / "joblog.txt").read_text() == "begun\n"


def test_out_of_memory_is_recognised(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, "echo begun; head -c 300m /dev/zero | tail | wc -c", "--memory", "64")
    state, reason = stack.end(folder)
    assert (state, reason) == ("failed", "killed: used more than 64 MB")
    stack.get(folder)
    assert (folder / "joblog.txt").read_text().startswith("begun\n")


def test_a_job_that_needs_more_memory_than_asked_completes_by_itself(
    stack: StackOfTest, folder: Path
) -> None:
    """Its output is that of the last attempt, and each attempt begins with the same input."""
    (folder / "seen").write_text("as submitted\n")
    command = "cat seen; echo changed > seen; head -c 300m /dev/zero | tail | wc -c"
    stack.submit(folder, command, "--memory", "64:1024", "--retry", "5")
    assert stack.end(folder) == ("completed", None)
    detail = json.loads(stack.leruli(folder, "task-status", "--json").stdout)["detail"]
    had = [(one["outcome"], one["memorymb"]) for one in detail["attempts"]]
    assert had[:2] == [("out_of_memory", 64), ("out_of_memory", 128)]
    assert had[-1] == ("ended", 64 * 2 ** detail["retry"]["used"])
    stack.get(folder)
    assert (folder / "joblog.txt").read_text() == "as submitted\n314572800\n"


def test_an_unknown_image_says_which_there_are(stack: StackOfTest, folder: Path) -> None:
    refused = stack.leruli(folder, "task-submit", "leruli-test", "9", "true")
    assert refused.returncode == 4
    assert "leruli-test:9 is not published. Your group has leruli-test with version 1." in (
        refused.stderr
    )
    # The reason if the client does not check, or if the image was removed after the submit.
    stack.submit_unpublished(folder, "leruli-test:9")
    state, reason = stack.end(folder)
    assert state == "failed"
    assert reason is not None
    assert "leruli-test:9 is not published" in reason
    assert "leruli-test has 1" in reason


def test_an_image_with_its_own_user_and_private_files(stack: StackOfTest, folder: Path) -> None:
    (folder / "input.dat").write_text("42")
    (folder / "input.dat").chmod(0o600)
    stack.submit(
        folder,
        "umask 077; id -u > who; cat input.dat > copy; mkdir private; echo x > private/secret",
        image="leruli-test-user:1",
    )
    assert stack.end(folder) == ("completed", None)
    stack.get(folder)
    assert (folder / "who").read_text() == "1000\n"
    assert (folder / "copy").read_text() == "42"
    assert (folder / "private" / "secret").read_text() == "x\n"


def test_a_planted_link_is_not_followed(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, "ln -s /etc/passwd stolen; ln -s /etc dir; echo mine > mine")
    state, _ = stack.end(folder)
    assert state == "completed"
    stack.get(folder)
    assert (folder / "mine").read_text() == "mine\n"
    assert not (folder / "stolen").exists()
    assert not (folder / "dir").exists()
    log = (folder / "joberr.txt").read_text() + (folder / "joblog.txt").read_text()
    assert "stolen" in log
    assert "root:" not in log


def test_a_large_output(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, "head -c 300000000 /dev/urandom > big; sha256sum big > sum")
    assert stack.end(folder) == ("completed", None)
    stack.get(folder)
    with (folder / "big").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert (folder / "sum").read_text().split()[0] == digest


def test_cancelled_while_received(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, "true", "--cores", "64")
    reason = stack.wait_for_state(folder, "received")
    assert reason is not None
    assert reason.startswith("waiting for a node with 64 cores and 4000 MB; the largest has ")
    assert stack.leruli(folder, "task-cancel").returncode == 0
    assert stack.status(folder) == ("cancelled", "cancelled before it ran")


def test_cancelled_while_submitted_and_while_running(stack: StackOfTest, tmp_path: Path) -> None:
    running, waiting = tmp_path / "running", tmp_path / "waiting"
    for folder in (running, waiting):
        folder.mkdir()
    stack.submit(running, "echo begun; sleep 600", "--cores", "2")
    stack.wait_for_state(running, "running")
    stack.submit(waiting, "true", "--cores", "2")
    stack.wait_for_state(waiting, "submitted")
    wait_for(
        lambda: (
            stack.status(waiting)[1]
            == "waiting for a node with enough free cores; it needs 2 cores and 4000 MB"
        ),
        seconds=20,
        what="the reason says why it waits",
    )
    assert stack.leruli(waiting, "task-cancel").returncode == 0
    assert stack.status(waiting) == ("cancelled", "cancelled before it ran")
    assert stack.leruli(running, "task-cancel").returncode == 0
    assert stack.end(running) == (
        "cancelled",
        "cancelled while it ran; output up to then was uploaded",
    )
    stack.get(running)
    assert (running / "joblog.txt").read_text() == "begun\n"


def test_a_batch(stack: StackOfTest, tmp_path: Path) -> None:
    folders = [tmp_path / f"case-{n}" for n in range(6)]
    for n, folder in enumerate(folders):
        folder.mkdir()
        (folder / "n").write_text(str(n))
    done = stack.leruli(
        tmp_path, "task-submit", "--batch", "case-*", "leruli-test", "1", "cat n n > nn"
    )
    assert done.returncode == 0, done.stderr
    for n, folder in enumerate(folders):
        assert stack.end(folder) == ("completed", None)
        stack.get(folder)
        assert (folder / "nn").read_text() == f"{n}{n}"
