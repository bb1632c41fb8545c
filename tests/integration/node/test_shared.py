"""Shared containers with the real runner and the real Docker: whom they serve, and what is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from node_input import PLAIN_IMAGE, USER_IMAGE
from node_rig import wait_for
from runner_rig import busybox_context
from shared_world import SharedWorld, shared_world

from leruli_node.slots.shared_folder import SharedFolder

BUSYBOX_IMAGE = "leruli-shared-test-busybox:1"


@pytest.fixture(scope="module")
def busybox() -> Iterator[str]:
    client = docker.from_env()
    client.images.build(fileobj=busybox_context(), custom_context=True, tag=BUSYBOX_IMAGE, rm=True)
    yield BUSYBOX_IMAGE
    client.images.remove(BUSYBOX_IMAGE)


@pytest.fixture
def world() -> Iterator[SharedWorld]:
    with shared_world(PLAIN_IMAGE) as made:
        yield made


@pytest.fixture(params=[PLAIN_IMAGE, USER_IMAGE, BUSYBOX_IMAGE])
def any_image(request: pytest.FixtureRequest, busybox: str) -> Iterator[SharedWorld]:
    with shared_world(request.param) as made:
        yield made


def test_jobs_of_one_user_run_in_one_container(any_image: SharedWorld) -> None:
    world = any_image
    for number in range(5):
        attempt = world.attempt(
            f"ls; cat in; echo $LERULI_JOBID $LERULI_CORES >out; exit {number}",
            files={"in": f"{number}\n", "sub/of": "x"},
        )
        ended = world.run(attempt)
        assert (ended.facts.exit_code, ended.was_signalled) == (number, False)
        # Only its own files are there.
        assert world.read(attempt) == f"in\njoberr.txt\njoblog.txt\nrun.sh\nsub\n{number}\n"
        assert world.read(attempt, "out") == f"{attempt.job} 1\n"
        assert world.read(attempt, "sub/of") == "x"
    assert len(world.containers()) == 1
    assert not list(world.rundir.iterdir())


def test_it_has_the_limits_and_security_of_the_first_one(world: SharedWorld) -> None:
    world.run(world.attempt("true"))
    [container] = world.containers()
    host, first = container.attrs["HostConfig"], world.slot.container["HostConfig"]
    for name in ("Memory", "MemorySwap", "PidsLimit", "NetworkMode", "SecurityOpt", "CapAdd"):
        assert host[name] == first[name], name
    assert not host["Privileged"]
    writable = {one["Destination"] for one in container.attrs["Mounts"] if one["RW"]}
    assert writable == {"/rundir", "/alloc"}
    assert "NOMAD_META_job=x" not in container.attrs["Config"]["Env"]


def test_what_a_job_leaves_in_scratch_folders_and_processes_is_gone(any_image: SharedWorld) -> None:
    world, folders = any_image, "/tmp /var/tmp /dev/shm"
    left = world.attempt(f"for d in {folders}; do mkdir -p $d/a; touch $d/a/b; done; sleep 100 &")
    world.run(left)
    found = world.attempt(f"find {folders} -mindepth 1; echo /proc/[0-9]*")
    world.run(found)
    # The runner and the shell.
    assert len(world.read(found).split()) == 2
    assert len(world.containers()) == 1


def test_a_container_serves_one_user_image_and_size(world: SharedWorld) -> None:
    kinds: list[dict[str, Any]] = [{}, {"user": "bob"}, {"image": USER_IMAGE}, {"cores": 2}]
    hosts: list[set[str]] = [set() for _ in kinds]
    for _ in range(3):
        for kind, of_kind in zip(kinds, hosts, strict=True):
            attempt = world.attempt("cat /etc/hostname", **kind)
            world.run(attempt)
            of_kind.add(world.read(attempt))
    # They take turns, so each kind keeps its container.
    assert [len(of_kind) for of_kind in hosts] == [1, 1, 1, 1]
    assert len(set.union(*hosts)) == len(world.containers()) == 4


def test_a_user_never_finds_what_another_one_left(world: SharedWorld) -> None:
    for user in ("ada", "bob", "ada", "bob"):
        attempt = world.attempt(f"ls /root; touch /root/of-{user}", user=user)
        world.run(attempt)
        assert set(world.read(attempt).split()) <= {f"of-{user}"}


def test_an_image_that_is_published_again_gets_another_container(world: SharedWorld) -> None:
    client, name = docker.from_env(), "leruli-shared-test-again:1"
    images = [client.images.get(PLAIN_IMAGE), client.images.get(USER_IMAGE)]
    users = []
    try:
        for image in images:
            image.tag(name)
            attempt = world.attempt("id -u", image=name)
            world.run(attempt)
            users.append(world.read(attempt))
            # Docker is not asked for each job.
            time.sleep(2.1)
    finally:
        client.images.remove(name)
    assert users[0] != users[1]


def test_a_slot_keeps_a_few_containers_only(world: SharedWorld) -> None:
    for number in range(7):
        world.run(world.attempt("true", user=str(number)))
    assert len(world.containers()) == 4
    # Also where prepared attempts were given back.
    for number in range(7):
        returned = world.attempt("true", user=f"back-{number}")
        world.shared.prepare(world.slot, returned)
        world.store.remove(returned)
    assert len(world.containers()) <= 5
    world.shared.close(world.slot)
    assert not world.containers()
    assert not list(world.folders.shared.iterdir())


@pytest.mark.parametrize("command", ["sleep 100", "trap '' TERM; sleep 100; sleep 100"])
def test_a_time_limit_ends_the_job_and_not_the_container(world: SharedWorld, command: str) -> None:
    attempt = world.attempt(f"echo begun; {command}", timelimit=1.0)
    began = time.monotonic()
    ended = world.run(attempt)
    assert 1.0 <= time.monotonic() - began < 8.0
    state = world.store.get(attempt)
    assert state is not None
    assert state.time_limit_at is not None
    assert ended.was_signalled
    assert world.read(attempt) == "begun\n"
    assert world.run(world.attempt("true")).facts.exit_code == 0
    assert len(world.containers()) == 1


def test_a_cancelled_job_ends_and_not_its_container(world: SharedWorld) -> None:
    attempt = world.attempt("trap 'echo saved; exit 0' TERM; sleep 100 & wait")
    world.begin(attempt)
    assert not world.shared.wait(world.slot, attempt, 1.0)
    world.shared.signal(world.slot, attempt, "TERM")
    ended = world.end_of(attempt, 10)
    assert ended.was_signalled
    assert world.read(attempt) == "saved\n"
    # The signal was for that job.
    after = world.run(world.attempt("true"))
    assert (after.facts.exit_code, after.was_signalled) == (0, False)
    assert len(world.containers()) == 1


def test_memory_that_runs_out_is_the_jobs_own(world: SharedWorld) -> None:
    hungry = world.attempt("dd if=/dev/zero of=/dev/null bs=300M count=1")
    assert world.run(hungry).facts.oom_killed
    # Memory of no process, so that only the cgroup's own counter sees it.
    modest = world.attempt("head -c 20000000 /dev/zero >/dev/shm/x; echo fine")
    ended = world.run(modest)
    assert (ended.facts.oom_killed, world.read(modest)) == (False, "fine\n")
    state = world.store.get(modest)
    assert state is not None
    assert state.peak_memory_mb is not None
    assert 19 <= state.peak_memory_mb < 64
    assert len(world.containers()) == 1


@pytest.mark.parametrize("seconds", [0, 7], ids=["short", "sampled"])
def test_the_page_cache_is_no_memory_of_the_job(world: SharedWorld, seconds: int) -> None:
    """Neither what the job before left there, nor its own."""
    writes = "head -c 10000000 /dev/zero"
    world.run(world.attempt(f"{writes} >/root/kept"))
    modest = world.attempt(f"{writes} >/dev/shm/x; {writes} >file; cat file; sleep {seconds}")
    assert world.run(modest).facts.exit_code == 0
    state = world.store.get(modest)
    assert state is not None
    assert state.peak_no_cache_mb is not None
    assert 9 <= state.peak_no_cache_mb < 19


def test_cpu_and_wall_time_are_the_jobs_own(world: SharedWorld) -> None:
    counting = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1"
    busy, idle = world.attempt(counting), world.attempt("sleep 1")
    used = []
    for attempt in (busy, idle):
        facts = world.run(attempt).facts
        assert facts.started_at is not None
        assert facts.finished_at is not None
        assert 1.0 <= facts.finished_at - facts.started_at < 20.0
        state = world.store.get(attempt)
        assert state is not None
        used.append(state.cpu_seconds or 0.0)
    assert used[1] < used[0] / 2


def test_a_disk_limit_counts_what_the_job_wrote_itself(world: SharedWorld) -> None:
    world.run(world.attempt("head -c 60000000 /dev/zero >/kept", diskmb=1000))
    modest = world.attempt("sleep 4", diskmb=40)
    assert world.run(modest).facts.exit_code == 0
    for where in ("/rundir/x", "/root/x"):
        greedy = world.attempt(f"sleep 2; head -c 60000000 /dev/zero >{where}; sleep 60", diskmb=40)
        ended = world.run(greedy, 40)
        state = world.store.get(greedy)
        assert state is not None
        assert state.disk_over_at is not None, where
        assert ended.was_signalled
    assert len(world.containers()) == 1


def test_a_container_that_is_killed_takes_its_job_along(world: SharedWorld) -> None:
    attempt = world.attempt("echo begun; sleep 100")
    world.begin(attempt)
    assert not world.shared.wait(world.slot, attempt, 1.0)
    [container] = world.containers()
    container.kill()
    assert world.shared.wait(world.slot, attempt, 10.0)
    assert world.shared.has_begun(world.slot, attempt)
    # Stage-out finds no container, and so says that the node failed.
    assert world.shared.ended(world.slot, attempt) is None
    assert world.read(attempt) == "begun\n"
    assert world.run(world.attempt("true")).facts.exit_code == 0


def test_a_container_that_ended_between_two_jobs_is_replaced(world: SharedWorld) -> None:
    world.run(world.attempt("true"))
    following = world.attempt("echo fine")
    world.shared.prepare(world.slot, following)
    [container] = world.containers()
    container.kill()
    wait_for(lambda: container.reload() or container.status != "running", 10)
    world.shared.start(world.slot, following)
    assert world.end_of(following).facts.exit_code == 0


def test_a_container_that_cannot_be_cleaned_runs_no_other_job() -> None:
    with shared_world(USER_IMAGE) as world:
        attempt = world.attempt("sleep 2; cat /etc/hostname")
        world.begin(attempt)
        following = world.attempt("cat /etc/hostname")
        world.shared.prepare(world.slot, following)
        [container] = world.containers()
        assert container.exec_run(["touch", "/tmp/theirs"], user="root")[0] == 0
        assert world.end_of(attempt).facts.exit_code == 0
        world.shared.start(world.slot, following)
        world.end_of(following)
        assert world.read(attempt) != world.read(following)


def test_a_kind_without_a_shared_container_gets_fresh_ones(world: SharedWorld) -> None:
    attempt = world.attempt("true")
    state = world.store.get(attempt)
    assert state is not None
    assert world.shared.serves(state)
    described = world.slot.container["HostConfig"]
    described["Runtime"] = "no-such-runtime"
    with pytest.raises(Exception, match="no shared container can be made"):
        world.shared.prepare(world.slot, attempt)
    assert not world.shared.serves(state)
    assert not world.containers()
    assert not list(world.folders.shared.iterdir())
    other = world.store.get(world.attempt("true", user="bob"))
    assert other is not None
    assert world.shared.serves(other)


def test_left_overs_are_swept(world: SharedWorld) -> None:
    world.run(world.attempt("true"))
    known, nodeid = {world.slot.first.key}, world.nodeid
    world.shared.sweep(known, nodeid)
    assert len(world.containers()) == 1
    [folder] = world.folders.shared.iterdir()
    folder.rename(world.folders.trash / "gone")
    again = world.new_agent()
    again.sweep(known, nodeid)
    assert not world.containers()
    world.run(world.attempt("true"))
    again.sweep(set(), nodeid)
    assert not world.containers()
    assert not list(world.folders.shared.iterdir())


def test_the_end_of_one_job_takes_nothing_from_the_next(
    world: SharedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is settled beside the start of the next one, and moves its files out once more."""
    before, after = world.attempt("true"), world.attempt("sleep 1; cat in", files={"in": "own"})
    world.run(before)
    world.shared.prepare(world.slot, after)
    is_moving, goes_on = threading.Event(), threading.Event()
    move_out = SharedFolder.move_out

    def slow(folder: SharedFolder, job: Path) -> None:
        is_moving.set()
        goes_on.wait(30)
        move_out(folder, job)

    with monkeypatch.context() as patched:
        patched.setattr(SharedFolder, "move_out", slow)
        settling = threading.Thread(target=world.shared.settle, args=(before, 1.0))
        settling.start()
        assert is_moving.wait(10)
        starting = threading.Thread(target=world.shared.start, args=(world.slot, after))
        starting.start()
        starting.join(0.5)
        goes_on.set()
        settling.join(30)
        starting.join(30)
    assert world.end_of(after).facts.exit_code == 0
    assert world.read(after) == "own"
    assert not (world.folders.job(before.key) / "rundir" / "in").exists()
