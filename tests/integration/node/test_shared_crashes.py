"""The agent is killed at each step of a job in a shared container: nothing is lost or run twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
from node_input import PLAIN_IMAGE
from node_rig import wait_for
from shared_world import SharedWorld, shared_world

from leruli_node.model import AttemptId
from leruli_node.slots import shared_folder
from leruli_node.slots.runner_line import Line
from leruli_node.slots.shared_container import SharedContainer
from leruli_node.slots.shared_folder import JobEnd, SharedFolder

FILES = {"in": "input\n", "sub/a": "a", "sub/b": "b", "c": "c", "d": "d"}


class KilledError(BaseException):
    """Stands for the end of the agent's process."""


@pytest.fixture
def world() -> Iterator[SharedWorld]:
    with shared_world(PLAIN_IMAGE) as made:
        made.run(made.attempt("true"))
        yield made


def kill_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, after: bool
) -> Callable[[], bool]:
    """Have the agent killed at a call of a function; return whether that has happened."""
    real, count = getattr(owner, name), 0

    def killing(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        if owner is os and "src_dir_fd" not in named:
            return real(*arguments, **named)
        count += 1
        if count == call and not after:
            raise KilledError
        answer = real(*arguments, **named)
        if count == call:
            raise KilledError
        return answer

    monkeypatch.setattr(owner, name, killing)
    return lambda: count >= call


# Where the agent is killed: function, which call of it, and whether it has done its work then.
STEPS = [
    (SharedFolder, "save", 1, False),
    (SharedFolder, "save", 1, True),
    (SharedFolder, "move_in", 1, False),
    (shared_folder.os, "rename", 1, True),
    (shared_folder.os, "rename", 3, True),
    (SharedFolder, "move_in", 1, True),
    (Line, "order", 1, False),
    (Line, "order", 1, True),
    (SharedContainer, "begin", 1, True),
    (SharedContainer, "wait", 1, False),
    (JobEnd, "save", 1, False),
    (JobEnd, "save", 1, True),
    (SharedFolder, "move_out", 1, False),
    # 5 files are moved in, and 7 out.
    (shared_folder.os, "rename", 7, True),
    (shared_folder.os, "rename", 9, True),
    (SharedFolder, "move_out", 1, True),
]


@pytest.mark.parametrize("seconds", ["0", "1.5"])
@pytest.mark.parametrize(("owner", "name", "call", "after"), STEPS)
def test_a_kill_at_each_step(
    world: SharedWorld,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    call: int,
    after: bool,
    seconds: str,
) -> None:
    command = f"echo once >>counted; cat in; sleep {seconds}; cat sub/a sub/b c d; exit 3"
    attempt = world.attempt(command, files=FILES)
    with monkeypatch.context() as patched:
        was_killed = kill_at(patched, owner, name, call, after)
        with pytest.raises(KilledError):
            world.run(attempt)
        assert was_killed()
    shared = world.new_agent()
    if not shared.has_begun(world.slot, attempt):
        world.begin(attempt)
    ended = world.end_of(attempt)
    assert (ended.facts.exit_code, ended.was_signalled) == (3, False)
    assert world.read(attempt) == "input\nabcd"
    assert world.read(attempt, "counted") == "once\n"
    following = world.attempt("ls", files={"mine": ""})
    world.run(following)
    assert world.read(following) == "joberr.txt\njoblog.txt\nmine\nrun.sh\n"
    assert len(world.containers()) == 1
    # The end of the first one is known until its output is uploaded.
    assert shared.has_begun(world.slot, attempt)
    again = shared.ended(world.slot, attempt)
    assert again is not None
    assert again.facts.exit_code == 3


def test_an_attempt_that_is_given_back_in_the_middle_leaves_nothing(
    world: SharedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = world.attempt("true", files=FILES)
    with monkeypatch.context() as patched:
        kill_at(patched, shared_folder.os, "rename", 3, True)
        with pytest.raises(KilledError):
            world.run(attempt)
    shared = world.new_agent()
    assert not shared.has_begun(world.slot, attempt)
    world.store.remove(attempt)
    following = world.attempt("ls")
    world.run(following)
    assert world.read(following) == "joberr.txt\njoblog.txt\nrun.sh\n"


def begun(world: SharedWorld, command: str) -> AttemptId:
    attempt = world.attempt(command)
    world.begin(attempt)
    wait_for(lambda: (world.rundir / "joblog.txt").exists(), 20)
    return attempt


def test_a_container_that_dies_while_no_agent_lives_is_not_run_again(world: SharedWorld) -> None:
    attempt = begun(world, "echo once >>counted; sleep 100")
    [container] = world.containers()
    container.kill()
    shared = world.new_agent()
    assert shared.has_begun(world.slot, attempt)
    assert shared.wait(world.slot, attempt, 10)
    assert shared.ended(world.slot, attempt) is None
    assert world.read(attempt, "counted") == "once\n"


def test_an_agent_that_is_started_again_keeps_the_time_limit(world: SharedWorld) -> None:
    attempt = world.attempt("sleep 100", timelimit=2.0)
    world.begin(attempt)
    began = time.monotonic()
    world.new_agent()
    assert world.end_of(attempt).was_signalled
    assert time.monotonic() - began < 10
    state = world.store.get(attempt)
    assert state is not None
    assert state.time_limit_at is not None


def test_settlement_ends_a_job_that_nobody_waits_for(world: SharedWorld) -> None:
    attempt = begun(world, "trap '' TERM; while :; do sleep 1; done")
    shared = world.new_agent()
    ended = shared.settle(attempt, 1.0)
    assert ended is not None
    assert ended.was_signalled
    state = world.store.get(attempt)
    assert state is not None
    assert state.stopped_at is not None


def test_a_frozen_container_is_ended(world: SharedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that does not end its job, as if it hung in the kernel."""
    monkeypatch.setattr("leruli_node.slots.shared_container._DIES_IN_S", 2.0)
    attempt = begun(world, "sleep 100")
    [container] = world.containers()
    container.pause()
    world.shared.signal(world.slot, attempt, "TERM")
    world.shared.signal(world.slot, attempt, "KILL")
    deadline = time.monotonic() + 30
    while not world.shared.wait(world.slot, attempt, 1.0):
        assert time.monotonic() < deadline
        [container] = docker.from_env().containers.list(
            filters={"label": f"leruli.node={world.nodeid}"}
        ) or [None]
        if container is not None and container.status == "paused":
            # Docker kills a paused container only when it is thawed.
            continue
    assert world.shared.ended(world.slot, attempt) is None
