"""What stage-in does when something around it fails: FAKES of Docker, the store, the service."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from node_faults import GRANT, Bench, FakeApi, attempt_state

from leruli_node.attempts.stage_in import FAILED, StageIn
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.errors import StoppedError
from leruli_node.fair_pool import FairPool
from leruli_node.files.unpack import InputLimits
from leruli_node.model import DECIDED, AttemptId, Decision, boot_id


def stage_in(bench: Bench, images: Any, objects: Any = None, trouble: str | None = None) -> StageIn:
    class Api(FakeApi):
        def start(self, attempt: AttemptId, startkey: str) -> dict[str, Any]:
            return dataclasses.asdict(GRANT)

    api: Any = Api()
    watch: Any = SimpleNamespace(trouble=trouble)
    return StageIn(
        bench.folders,
        bench.store,
        bench.identity,
        api,
        images,
        objects,
        watch,
        bench.trash,
        1.0,
        InputLimits(10, 10),
        FairPool(2),
        bench.stop,
        threading.Event(),
    )


class NoImages:
    def ensure(self, *_: object) -> None:
        return


ATTEMPT = attempt_state().id


def test_a_surprise_in_stage_in_is_node_trouble(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Images:
        def ensure(self, *_: object) -> None:
            raise ValueError("odd")

    assert stage_in(bench, Images())(ATTEMPT, "a").code == FAILED
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert state.problem_outcome == "node_trouble"
    assert "ValueError: odd" in caplog.text


def test_a_restart_before_the_job_began_is_not_one_while_it_ran(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store.create(attempt_state(phase="granted", boot_id="earlier"))
    staging = stage_in(bench, NoImages())
    monkeypatch.setattr(staging, "_bring_input", lambda *_: None)
    assert staging(ATTEMPT, "a").code == 0
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert state.boot_id == boot_id()


def test_an_attempt_that_has_ended_is_not_brought_in_again(bench: Bench) -> None:
    """Nomad starts it anew where its note of the container is lost; the output is still there."""
    ended = attempt_state(phase=DECIDED, decision=Decision("ended", exitcode=0), ran=True)
    bench.store.create(ended)
    assert stage_in(bench, NoImages())(ATTEMPT, "a").code == FAILED
    assert bench.store.get(ATTEMPT) == ended


def test_no_new_attempt_without_ballast(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    answer = stage_in(bench, NoImages())(ATTEMPT, "a")
    assert answer == Answer(FAILED, "the node's disk is full")
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert (state.problem_outcome, state.grant) == ("node_trouble", None)


def test_an_input_in_which_the_agent_died_twice_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: an agent that the kernel killed in a stage-in does not die in it for ever."""
    bench.store.create(attempt_state(phase="granted"))
    places: list[int] = []
    kept: list[bytes] = []
    file = bench.folders.attempts / f"{ATTEMPT.id}.json"

    class Killed(BaseException):
        """The agent's end; what it writes to its notes afterwards is undone below."""

    def die(staging: StageIn) -> None:
        places.append(staging._unpacking._free)
        kept.append(file.read_bytes())
        raise Killed

    for _ in range(2):
        staging = stage_in(bench, NoImages())
        monkeypatch.setattr(staging, "_check_bucket", lambda *_: None)
        monkeypatch.setattr(staging, "_unpack", lambda *_, staging=staging: die(staging))
        with pytest.raises(Killed):
            staging(ATTEMPT, "a")
        file.write_bytes(kept.pop())
        bench.store = AttemptStore(bench.folders.attempts)
    # After the first time it was unpacked alone.
    assert places == [1, 0]
    answer = stage_in(bench, NoImages())(ATTEMPT, "a")
    assert answer.code == FAILED
    assert "killed 2 times while it unpacked the input" in answer.sentence
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert state.problem_outcome == "input_broken"


def test_an_agent_that_is_stopped_while_it_unpacks_has_not_died(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: a stop in order is not counted, and another boot of the machine is not."""
    bench.store.create(attempt_state(phase="granted"))

    def stopped(*_: object) -> None:
        bench.stop.set()
        raise StoppedError

    for _ in range(3):
        bench.stop.clear()
        staging = stage_in(bench, NoImages())
        monkeypatch.setattr(staging, "_check_bucket", lambda *_: None)
        monkeypatch.setattr(staging, "_unpack", stopped)
        with pytest.raises(StoppedError):
            staging(ATTEMPT, "a")
    bench.store.update(ATTEMPT, unpacking_run="another-boot run")
    bench.stop.clear()
    staging = stage_in(bench, NoImages())
    monkeypatch.setattr(staging, "_check_bucket", lambda *_: None)
    monkeypatch.setattr(staging, "_unpack", lambda *_: None)
    assert staging(ATTEMPT, "a").code == 0
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert (state.unpacking_run, state.unpacking_deaths) == (None, 0)
