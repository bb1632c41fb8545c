"""Stage-in while a part around it fails: FAKES of Docker, the store, the service."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from node_faults import GRANT, Bench, FakeApi, attempt_state

from leruli_node.attempts.input_fetcher import InputFetcher
from leruli_node.attempts.stage_in import FAILED, StageIn
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.errors import StoppedError
from leruli_node.fair_pool import FairPool
from leruli_node.files.unpack import InputLimits
from leruli_node.model import DECIDED, AttemptId, Decision, boot_id
from leruli_node.objects.upload_lease import HeldLeases
from leruli_node.outcomes import Outcome


def stage_in(bench: Bench, images: Any, objects: Any = None, trouble: str | None = None) -> StageIn:
    class Api(FakeApi):
        def start(self, attempt: AttemptId, startkey: str) -> dict[str, Any]:
            return dataclasses.asdict(GRANT)

    api: Any = Api()
    watch: Any = SimpleNamespace(trouble=trouble)
    inputs = InputFetcher(
        bench.folders,
        bench.store,
        objects,
        watch,
        bench.trash,
        1.0,
        InputLimits(10, 10),
        FairPool(2),
    )
    return StageIn(
        bench.folders,
        bench.store,
        bench.identity,
        api,
        images,
        inputs,
        watch,
        1.0,
        bench.stop,
        threading.Event(),
        HeldLeases(),
    )


class NoImages:
    def ensure(self, *_: object) -> None:
        return


ATTEMPT = attempt_state().id


def test_an_unexpected_error_in_stage_in_is_node_trouble(
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
    monkeypatch.setattr(staging._inputs, "fetch", lambda *_: None)
    assert staging(ATTEMPT, "a").code == 0
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert state.boot_id == boot_id()


def test_an_attempt_that_has_ended_is_not_staged_in_again(bench: Bench) -> None:
    """Nomad starts it again if it lost its state of the container. The output is still there."""
    ended = attempt_state(phase=DECIDED, decision=Decision(Outcome.ENDED, exitcode=0), ran=True)
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


def test_an_input_that_killed_the_agent_twice_is_broken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: an agent that the kernel kills in a stage-in does not repeat that without end."""
    bench.store.create(attempt_state(phase="granted"))
    places: list[int] = []
    kept: list[bytes] = []
    file = bench.folders.attempts / f"{ATTEMPT.id}.json"

    class Killed(BaseException):
        """The agent's end. The test undoes what is written to the state file afterwards."""

    def die(staging: StageIn) -> None:
        places.append(staging._inputs._pool._free)
        kept.append(file.read_bytes())
        raise Killed

    for _ in range(2):
        staging = stage_in(bench, NoImages())
        monkeypatch.setattr(staging._inputs, "_check_bucket", lambda *_: None)
        monkeypatch.setattr(staging._inputs, "_unpack", lambda *_, staging=staging: die(staging))
        with pytest.raises(Killed):
            staging(ATTEMPT, "a")
        file.write_bytes(kept.pop())
        bench.store = AttemptStore(bench.folders.attempts)
    # After the first death it was unpacked alone.
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
    """H1: a normal stop does not count, nor does another boot of the machine."""
    bench.store.create(attempt_state(phase="granted"))

    def stopped(*_: object) -> None:
        bench.stop.set()
        raise StoppedError

    for _ in range(3):
        bench.stop.clear()
        staging = stage_in(bench, NoImages())
        monkeypatch.setattr(staging._inputs, "_check_bucket", lambda *_: None)
        monkeypatch.setattr(staging._inputs, "_unpack", stopped)
        with pytest.raises(StoppedError):
            staging(ATTEMPT, "a")
    bench.store.update(ATTEMPT, unpacking_run="another-boot run")
    bench.stop.clear()
    staging = stage_in(bench, NoImages())
    monkeypatch.setattr(staging._inputs, "_check_bucket", lambda *_: None)
    monkeypatch.setattr(staging._inputs, "_unpack", lambda *_: None)
    assert staging(ATTEMPT, "a").code == 0
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert (state.unpacking_run, state.unpacking_deaths) == (None, 0)
