"""Hostile jobs in shared containers: they speak for nobody, and leave nothing for other users."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_input import PLAIN_IMAGE, USER_IMAGE
from node_rig import wait_for
from runner_rig import in_namespaces
from shared_world import SharedWorld, shared_world


@pytest.fixture(params=[PLAIN_IMAGE, USER_IMAGE])
def world(request: pytest.FixtureRequest) -> Iterator[SharedWorld]:
    with shared_world(request.param) as made:
        yield made


@pytest.fixture
def as_root() -> Iterator[SharedWorld]:
    with shared_world(PLAIN_IMAGE) as made:
        yield made


def next_job_is_clean(world: SharedWorld) -> None:
    """The next job of the same user runs in the same container and finds only its own files."""
    following = world.attempt("ls -a; cat in; exit 4", files={"in": "mine\n"})
    assert world.run(following).facts.exit_code == 4
    assert world.read(following) == ".\n..\nin\njoberr.txt\njoblog.txt\nrun.sh\nmine\n"
    assert len(world.containers()) == 1


def test_the_control_folder_is_read_only(world: SharedWorld) -> None:
    tries = (
        "touch /leruli/x",
        "rm -f /leruli/agent.sock",
        "mv /leruli/agent.sock /leruli/y",
        "echo x >/leruli/runner",
        "mkdir /leruli/started",
        "chmod 777 /leruli",
        "mount -o remount,rw /leruli",
        "umount /leruli",
        "umount /rundir",
    )
    attempt = world.attempt("\n".join(f"{one} && echo 'done: {one}'" for one in tries))
    world.run(attempt)
    assert world.read(attempt) == ""
    next_job_is_clean(world)


def test_rundir_itself_cannot_be_taken(world: SharedWorld) -> None:
    attempt = world.attempt(
        "echo saved >result; mv /rundir /other && echo moved; cd /; rm -rf /rundir && echo gone\n"
        "echo saved >/rundir/result; mkdir -p /rundir/deep/er; chmod 0 /rundir/deep\n"
        "ln -s /etc/passwd /rundir/link; mkfifo /rundir/pipe; chmod 1000 /rundir; true"
    )
    assert world.run(attempt).facts.exit_code == 0
    assert world.read(attempt, "result") == "saved\n"
    job = world.folders.job(attempt.key) / "rundir"
    assert (job / "link").is_symlink()
    assert (job / "deep" / "er").is_dir()
    next_job_is_clean(world)


def test_root_in_a_container_cannot_keep_rundir(as_root: SharedWorld) -> None:
    """Owner, mode, sticky bit and access lists of /rundir are as before for the next job."""
    attempt = as_root.attempt("chown 4321:4321 /rundir; chmod 3700 /rundir; echo x >/rundir/x")
    as_root.run(attempt)
    acl = bytes.fromhex("0200000001000700ffffffff04000000ffffffff20000000ffffffff")
    os.setxattr(as_root.rundir, "system.posix_acl_default", acl)
    next_job_is_clean(as_root)
    facts = as_root.rundir.stat()
    assert (facts.st_uid, facts.st_mode & 0o7777) == (os.getuid(), 0o777)
    assert not os.listxattr(as_root.rundir)


def test_daemons_do_not_survive(world: SharedWorld) -> None:
    daemon = "(trap '' TERM HUP INT; while :; do echo alive >>/rundir/daemon; sleep 0.05; done) &"
    attempt = world.attempt(f"{daemon}\nsetsid sh -c 'setsid sleep 1000 &' &\nsleep 0.3; exit 0")
    assert world.run(attempt).facts.exit_code == 0
    assert "alive" in world.read(attempt, "daemon")
    next_job_is_clean(world)


def test_a_fork_bomb_ends_with_its_time_limit(world: SharedWorld) -> None:
    attempt = world.attempt("bomb() { bomb | bomb & }; bomb; sleep 100", timelimit=2.0)
    world.begin(attempt)
    assert world.end_of(attempt, 60).was_signalled
    next_job_is_clean(world)


def test_the_runner_has_its_threads_before_the_first_job(as_root: SharedWorld) -> None:
    """A fork bomb leaves no room for a thread, and Go ends a program that gets none."""
    as_root.begin(as_root.attempt("true"))
    [container] = as_root.containers()
    status = Path(f"/proc/{container.attrs['State']['Pid']}/status").read_text()
    [threads] = re.findall(r"^Threads:\t(\d+)$", status, re.MULTILINE)
    assert int(threads) > 16


def test_a_full_tmp_is_empty_again(world: SharedWorld) -> None:
    attempt = world.attempt(
        "for i in $(seq 2000); do echo x >/tmp/$i; done; head -c 50000000 /dev/zero >/var/tmp/big\n"
        "dd if=/dev/zero of=/dev/shm/full bs=1M; mkdir -p /tmp/a/b/c; chmod 0 /tmp/a; true"
    )
    world.run(attempt)
    following = world.attempt("find /tmp /var/tmp /dev/shm -mindepth 1")
    world.run(following)
    assert world.read(following) == ""


def test_a_pipe_in_place_of_the_log_costs_only_this_job(world: SharedWorld) -> None:
    """To open it would block the runner."""
    attempt = world.attempt("true")
    os.mkfifo(world.folders.job(attempt.key) / "rundir" / "joblog.txt")
    assert world.run(attempt).facts.exit_code == 127
    next_job_is_clean(world)


# Connects to the agent's socket again and again, and says what the runner would say.
IMPOSTOR = (
    "import socket, sys, time\n"
    "path, said = sys.argv[1:3]\n"
    "end = time.monotonic() + 8\n"
    "while time.monotonic() < end:\n"
    "    try:\n"
    "        s = socket.socket(socket.AF_UNIX); s.connect(path)\n"
    "        s.sendall(said.encode() + b'\\n')\n"
    "        s.settimeout(0.2); print('heard', s.recv(1000), flush=True)\n"
    "    except OSError as error:\n"
    "        print(type(error).__name__, flush=True); time.sleep(0.002)\n"
)


def test_a_job_that_connects_first_is_not_believed(as_root: SharedWorld) -> None:
    """The impostor is a process of the container, put there from the host."""
    world = as_root
    attempt = world.attempt("echo mine; sleep 4; exit 5")
    world.begin(attempt)
    wait_for(lambda: (world.rundir / "joblog.txt").exists(), 20)
    [container] = world.containers()
    container.reload()
    said = (
        f'{{"state":"ended","id":"{attempt.id}","end":{{"exitcode":0,"wallseconds":1,'
        '"cpuseconds":1,"oomkills":0,"peakbytes":1,"largestprocessbytes":1}}'
    )
    [folder] = world.folders.shared.iterdir()
    path = str(folder / "control" / "agent.sock")
    command = in_namespaces(container.attrs["State"]["Pid"], "--pid", IMPOSTOR, path, said)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as impostor:
        assert impostor.stdout is not None
        assert impostor.stdout.readline()
        # The agent is started again and listens: the impostor may be first.
        shared = world.new_agent()
        assert shared.has_begun(world.slot, attempt)
        ended = world.end_of(attempt)
        impostor.kill()
        heard = impostor.stdout.read()
    assert ended.facts.exit_code == 5
    assert world.read(attempt) == "mine\n"
    # It got no order, such as the environment of the next job.
    assert "heard b'{" not in heard


def test_a_job_leaves_no_way_to_another_users_job(as_root: SharedWorld) -> None:
    """Whatever it keeps open or leaves behind, the other user has another container."""
    world = as_root
    thief = (
        "(exec 3</rundir; while :; do cat /rundir/secret /alloc/secret; sleep 0.02; done) "
        "</dev/null >/root/stolen 2>&1 &\nln /rundir/run.sh /alloc/run.sh; sleep 0.2"
    )
    world.run(world.attempt(thief, user="eve"))
    world.run(world.attempt("sleep 1; cp secret /alloc/", user="ada", files={"secret": "s3cret"}))
    spy = world.attempt("cat /root/stolen; ls -R /alloc /rundir /leruli", user="eve")
    world.run(spy)
    assert "s3cret" not in world.read(spy)
    assert "secret\n" not in world.read(spy).replace("/secret\n", "")
    users = {one.record.kind.user for one in world.shared._containers}
    assert users == {"ada", "eve"}
    assert len(world.containers()) == 2
