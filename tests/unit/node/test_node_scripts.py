"""main.sh in real shells, and leruli-driver started by hand with a socket."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from leruli_node.container.job_environment import job_environment
from leruli_node.container.main_script import write_control
from leruli_node.model import AttemptId, StartGrant

ATTEMPT = AttemptId("00000000-0000-4000-8000-000000000001", 1)
GRANT = StartGrant("bucket", "psi4", "1.5", 3, 4000, 100.0)
NODE_NAME = "o'node 1"
DRIVER = Path(sys.executable).with_name("leruli-driver")
SHELLS = [s for s in (["dash"], ["bash"], ["busybox", "sh"]) if shutil.which(s[0])]
TOOLS = ("sh", "mkdir", "rm", "sleep", "setsid", "cat")


def path_without_bash(folder: Path) -> dict[str, str]:
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return {"PATH": str(folder)}


def prepare(tmp_path: Path, script: str) -> list[Path]:
    rundir, control = tmp_path / "rundir", tmp_path / "control"
    rundir.mkdir()
    (rundir / "run.sh").write_text(script)
    write_control(control, ATTEMPT, GRANT, NODE_NAME)
    main = control / "main.sh"
    # Outside of a container the paths differ, and a signal to all processes must not be sent.
    text = main.read_text().replace("/leruli", str(control)).replace("/rundir", str(rundir))
    main.write_text(text.replace("kill -s TERM -- -1", 'kill -s TERM "$job"'))
    return [rundir, control, main]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_runs_once(tmp_path: Path, shell: list[str]) -> None:
    rundir, control, main = prepare(tmp_path, "echo out; echo err >&2; exit 3")
    assert subprocess.run([*shell, str(main)], check=False).returncode == 3
    assert (rundir / "joblog.txt").read_text() == "out\n"
    assert (rundir / "joberr.txt").read_text() == "err\n"
    assert (control / "exitcode").read_text() == "3\n"
    assert len((control / "times").read_text().splitlines()) == 2
    assert not (control / "terminated").exists()
    assert subprocess.run([*shell, str(main)], check=False).returncode == 122
    assert (control / "refused").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_the_job_gets_its_id_and_resources(tmp_path: Path, shell: list[str]) -> None:
    rundir, _, main = prepare(tmp_path, "env | grep ^LERULI_")
    assert subprocess.run([*shell, str(main)], check=False).returncode == 0
    told = dict(line.split("=", 1) for line in (rundir / "joblog.txt").read_text().splitlines())
    assert told == {
        "LERULI_JOB_ID": ATTEMPT.job,
        "LERULI_JOBID": ATTEMPT.job,
        "LERULI_CORES": "3",
        "LERULI_MEMORY_MB": "4000",
        "LERULI_MEMORYMB": "4000",
        "LERULI_TIME_LIMIT": f"{GRANT.timelimit:.0f}",
        "LERULI_ATTEMPT": str(ATTEMPT.attempt),
        "LERULI_NODE": NODE_NAME,
    }


def test_a_job_of_a_batch_gets_the_batch() -> None:
    """Also where a container is shared: the variables come from the same function."""
    grant = dataclasses.replace(GRANT, batch="b1")
    assert job_environment(ATTEMPT, grant, "n")["LERULI_BATCH"] == "b1"
    assert "LERULI_BATCH" not in job_environment(ATTEMPT, GRANT, "n")


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_a_second_term_is_not_passed_on(tmp_path: Path, shell: list[str]) -> None:
    """The agent and Nomad both send it to a cancelled job."""
    counts = "trap 'echo term' TERM\necho ready; for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done"
    rundir, _, main = prepare(tmp_path, counts)
    process = subprocess.Popen([*shell, str(main)])
    log = rundir / "joblog.txt"
    while not log.exists() or "ready" not in log.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert log.read_text().split() == ["ready", "term"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_waits_across_term(tmp_path: Path, shell: list[str]) -> None:
    rundir, control, main = prepare(
        tmp_path,
        "trap 'sleep 0.5; echo saved; exit 5' TERM\necho ready; while :; do sleep 0.1; done",
    )
    process = subprocess.Popen([*shell, str(main)])
    while not (rundir / "joblog.txt").exists() or not (rundir / "joblog.txt").read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 5
    assert (rundir / "joblog.txt").read_text() == "ready\nsaved\n"
    assert (control / "terminated").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda s: s[0])
def test_command_not_found_is_127(tmp_path: Path, shell: list[str]) -> None:
    _, _, main = prepare(tmp_path, "no-such-program-anywhere")
    assert subprocess.run([*shell, str(main)], check=False).returncode == 127


@pytest.mark.parametrize(
    ("shell", "with_bash"),
    [(shell, with_bash) for shell in SHELLS for with_bash in sorted({True, shell == ["bash"]})],
    ids=lambda value: str(value),
)
def test_a_job_that_ends_its_own_group(tmp_path: Path, shell: list[str], with_bash: bool) -> None:
    rundir, control, main = prepare(
        tmp_path, "trap 'trap \"\" TERM; kill 0; echo ended; exit 3' EXIT; sleep 50 & sleep 0.3"
    )
    environ = None if with_bash else path_without_bash(tmp_path / "bin")
    program = [str(shutil.which(shell[0])), *shell[1:]]
    process = subprocess.Popen(
        [*program, str(main)], env=environ, start_new_session=True, stderr=subprocess.PIPE
    )
    assert process.wait(20) == 3
    assert not (control / "terminated").exists()
    assert (control / "exitcode").read_text() == "3\n"
    assert (rundir / "joblog.txt").read_text() == "ended\n"
    assert (rundir / "joberr.txt").read_text() == ""


ENVIRONMENT = {
    "NOMAD_META_job": "00000000-0000-4000-8000-000000000001",
    "NOMAD_META_attempt": "2",
    "NOMAD_ALLOC_ID": "alloc",
}


def stage(direction: str, path: Path, *seconds: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(DRIVER), direction, str(path), *seconds],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_stage_asks_again_after_a_dropped_connection(tmp_path: Path) -> None:
    path, lines = tmp_path / "s", []

    def serve() -> None:
        for answer in (b"", b"75", b"7 because\n"):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                listener.listen()
                connection, _ = listener.accept()
                lines.append(connection.recv(4096))
                connection.sendall(answer)
                connection.close()
            path.unlink()
            time.sleep(0.2)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    process = stage("out", path)
    assert process.wait(20) == 7
    assert process.stderr is not None
    assert process.stderr.read() == "because\n"
    thread.join()
    assert lines == [b"out 00000000-0000-4000-8000-000000000001 2 alloc\n"] * 3


def test_stage_ends_after_its_retry_time(tmp_path: Path) -> None:
    started = time.monotonic()
    assert stage("in", tmp_path / "none", "0.3").wait(20) == 75
    assert 0.3 <= time.monotonic() - started < 3


def test_stage_goes_on_asking_without_a_given_time(tmp_path: Path) -> None:
    asked = [stage(direction, tmp_path / "none") for direction in ("in", "out")]
    with pytest.raises(subprocess.TimeoutExpired):
        asked[0].wait(2)
    assert asked[1].poll() is None
    for process in asked:
        process.kill()
        process.wait()


def test_stage_refuses_an_unknown_stage(tmp_path: Path) -> None:
    assert stage("up", tmp_path / "x").wait(20) == 64
    done = subprocess.run([str(DRIVER), "in", "x"], env={}, capture_output=True, text=True)
    assert done.returncode == 64
    assert done.stderr.startswith("usage: leruli-driver in|out|end SOCKET")
