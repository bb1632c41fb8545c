"""leruli-runner in a real container: a job leaves nothing for the next, and cannot speak for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from node_input import PLAIN_IMAGE, USER_IMAGE
from node_rig import wait_for
from runner_rig import SharedContainer, busybox_context, in_namespaces, shared_container


@pytest.fixture
def shared() -> Iterator[SharedContainer]:
    with shared_container(PLAIN_IMAGE) as made:
        yield made


@pytest.fixture(params=[PLAIN_IMAGE, USER_IMAGE])
def any_user(request: pytest.FixtureRequest) -> Iterator[SharedContainer]:
    with shared_container(request.param) as made:
        yield made


def test_a_job_finds_its_environment_and_ends_with_its_own_exit_code(
    any_user: SharedContainer,
) -> None:
    end = any_user.run("a", "pwd; echo $LERULI_JOBID; echo bad >&2; exit 3", ["LERULI_JOBID=a"])
    assert end["exitcode"] == 3
    assert any_user.output == "/rundir\na\n"
    assert (any_user.rundir / "joberr.txt").read_text() == "bad\n"
    # The next job has an environment of its own.
    any_user.run("b", "echo ${LERULI_JOBID:-none}")
    assert any_user.output == "none\n"


def test_a_signal_that_ends_a_job_is_told_as_a_shell_tells_it(shared: SharedContainer) -> None:
    assert shared.run("a", "kill -KILL $$")["exitcode"] == 137


def test_a_command_that_cannot_run_is_told(shared: SharedContainer) -> None:
    shared.begin("a", "true")
    assert shared.line.report()["end"]["exitcode"] == 0
    (shared.rundir / "joblog.txt").unlink()
    (shared.rundir / "joblog.txt").mkdir()
    shared.line.order("run", "b")
    assert shared.line.report()["state"] == "running"
    end = shared.line.report()["end"]
    assert end["exitcode"] == 127
    assert "joblog.txt" in end["notstarted"]


def test_no_process_of_a_job_is_left(any_user: SharedContainer) -> None:
    end = any_user.run("a", "(trap '' TERM HUP; exec sleep 1000) & (sleep 1000 &) ; true")
    assert end["left"] == 2
    any_user.run("b", "echo /proc/[0-9]*")
    # The runner and the shell.
    assert len(any_user.output.split()) == 2


def test_no_file_of_a_job_is_left_in_the_scratch_folders(any_user: SharedContainer) -> None:
    folders = "/tmp /var/tmp /dev/shm"
    command = f"for d in {folders}; do mkdir -p $d/a/b; touch $d/x $d/a/b/y; chmod 0 $d/a; done"
    assert "unclean" not in any_user.run("a", command)
    any_user.run("b", f"find {folders} -mindepth 1")
    assert any_user.output == ""


def test_no_system_v_object_of_a_job_is_left(shared: SharedContainer) -> None:
    program = (
        "import ctypes; c = ctypes.CDLL(None);"
        "print(c.shmget(0, 4096, 0o1600), c.semget(0, 1, 0o1600), c.msgget(0, 0o1600))"
    )
    subprocess.run(in_namespaces(shared.pid, "--ipc", program), check=True, stdout=subprocess.PIPE)
    lists = "tail -q -n +2 /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg"
    shared.run("a", lists)
    assert len(shared.output.splitlines()) == 3
    shared.run("b", lists)
    assert shared.output == ""


def test_a_container_that_cannot_be_cleaned_runs_no_other_job() -> None:
    with shared_container(USER_IMAGE) as shared:
        shared.begin("a", "sleep 1")
        code, _ = shared.container.exec_run(["touch", "/tmp/theirs"], user="root")
        assert code == 0
        assert shared.line.report()["end"]["unclean"] == "/tmp cannot be emptied"
        refused = shared.begin("b", "true")
        assert (refused["id"], refused["refused"]) == ("a", "/tmp cannot be emptied")


def test_a_job_cannot_signal_or_read_the_runner(any_user: SharedContainer) -> None:
    end = any_user.run(
        "a", "for i in $(seq 64); do kill -$i 1; done; sleep 0.2; cat /proc/1/environ && echo read"
    )
    assert end["exitcode"] != 0
    assert any_user.output == ""
    assert "Permission denied" in (any_user.rundir / "joberr.txt").read_text()
    assert any_user.run("b", "true")["exitcode"] == 0


def test_a_job_that_takes_the_agents_socket_gives_no_orders(shared: SharedContainer) -> None:
    """The job's listener is a process of the container, put there from the host."""
    shared.lose_line()
    impostor = (
        "import os, socket, sys\n"
        "path = sys.argv[1]\n"
        "os.unlink(path); s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen()\n"
        "for _ in range(3):\n"
        "    c = s.accept()[0]\n"
        "    try:\n"
        '        c.sendall(b\'{"do":"run","id":"evil"}\\n\'); print(c.recv(1000), flush=True)\n'
        "    except OSError as error:\n"
        "        print(error, flush=True)\n"
    )
    (shared.rundir / "run.sh").write_text("touch obeyed")
    command = in_namespaces(shared.pid, "--pid", impostor, str(shared.socket_path))
    said = subprocess.run(command, check=True, timeout=30, stdout=subprocess.PIPE, text=True)
    assert '"state"' not in said.stdout
    assert len(said.stdout.splitlines()) == 3
    shared.listen()
    shared.line = shared.accept()
    assert shared.line.report() == {"state": "idle"}
    assert not (shared.rundir / "obeyed").exists()


def test_the_agent_knows_the_runner_by_its_process(any_user: SharedContainer) -> None:
    assert any_user.line.peer_pid == any_user.pid


def test_a_job_goes_on_without_the_agent_and_is_told_to_the_next_one(
    shared: SharedContainer,
) -> None:
    shared.begin("a", "sleep 1; echo once >>counted; exit 4")
    shared.lose_line()
    wait_for((shared.rundir / "counted").exists, 10)
    shared.listen()
    shared.line = shared.accept()
    told = shared.line.report()
    while told["state"] == "running":
        told = shared.line.report()
    assert (told["state"], told["id"], told["end"]["exitcode"]) == ("ended", "a", 4)
    # An agent whose order was lost gives it again.
    shared.line.order("run", "a")
    assert shared.line.report()["state"] == "ended"
    shared.line.order("forget", "a")
    assert shared.line.report() == {"state": "idle"}
    assert (shared.rundir / "counted").read_text() == "once\n"


def test_one_job_at_a_time(shared: SharedContainer) -> None:
    shared.begin("a", "sleep 30")
    shared.line.order("run", "b")
    refused = shared.line.report()
    assert (refused["id"], refused["refused"]) == ("a", "another job runs")
    # The signal of an order for another job does not reach this one.
    shared.line.order("signal", "b", signal="KILL")
    assert shared.line.report()["state"] == "running"
    shared.line.order("signal", "a", signal="TERM")
    reports = [shared.line.report(), shared.line.report()]
    assert reports[-1]["end"]["exitcode"] == 143
    assert reports[-1]["end"]["wallseconds"] < 20


def test_memory_that_runs_out_ends_the_job_and_not_the_container(shared: SharedContainer) -> None:
    hungry = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"
    end = shared.run("a", hungry)
    assert end["oomkills"] >= 1
    assert shared.output == ""
    after = shared.run("b", "echo fine")
    assert (after["oomkills"], shared.output) == (0, "fine\n")


def test_cpu_time_is_the_jobs_own(shared: SharedContainer) -> None:
    busy = shared.run("a", "timeout 1 sh -c 'while :; do :; done'")
    idle = shared.run("b", "sleep 1")
    assert busy["cpuseconds"] > 0.3
    assert idle["cpuseconds"] < busy["cpuseconds"] / 3
    assert 1.0 <= idle["wallseconds"] < 5.0


def test_an_image_with_nothing_but_busybox(tmp_path: Path) -> None:
    name = "leruli-runner-test-busybox:1"
    client = docker.from_env()
    client.images.build(fileobj=busybox_context(), custom_context=True, tag=name, rm=True)
    try:
        with shared_container(name) as shared:
            assert shared.run("a", "echo $0; touch /tmp/x; sleep 100 & exit 5")["exitcode"] == 5
            assert shared.output == "run.sh\n"
            shared.run("b", "ls -A /tmp")
            assert shared.output == ""
    finally:
        client.images.remove(name)


def test_it_costs_little_memory(shared: SharedContainer) -> None:
    for number in range(50):
        shared.run(str(number), "true")
    status = Path(f"/proc/{shared.pid}/status").read_text()
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    assert int(kilobytes) < 8_000
