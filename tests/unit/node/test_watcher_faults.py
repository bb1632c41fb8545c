"""The watcher while a part around it fails: FAKES of Docker, the store, the service."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_faults import Bench, attempt_state

from leruli_node.attempts import store as state_module
from leruli_node.attempts.watcher import Watcher, is_memory_full
from leruli_node.container.disk_use import DiskMeter, Disks, DiskUse
from leruli_node.container.docker_engine import DockerUnavailableError
from leruli_node.model import ASKING, AttemptId
from leruli_node.outcomes import Outcome


def watcher(bench: Bench, finish: Callable[[AttemptId], None], **more: float) -> Watcher:
    engine: Any = bench.engine
    disks = Disks(bench.folders.root, lambda: bench.folders.root)
    use = DiskUse(DiskMeter(engine, bench.access, bench.folders), disks)
    return Watcher(bench.store, engine, bench.identity, 0.1, finish, use, disks, **more)


def test_a_failure_of_one_attempt_does_not_end_the_tick(bench: Bench) -> None:
    first = bench.add(attempt_state(1))
    second = bench.add(attempt_state(2))
    bench.engine.states = {first.key: "running", second.key: "running"}
    bench.engine.refuses = {first.key}
    watcher(bench, bench.stage_out.finish).tick()
    assert bench.engine.signals == [(second.key, "TERM")]


def test_docker_away_ends_the_tick(bench: Bench) -> None:
    bench.add(attempt_state())
    bench.engine.away = True
    with pytest.raises(DockerUnavailableError):
        watcher(bench, bench.stage_out.finish).tick()


def test_the_time_limit_holds_on_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = bench.add(attempt_state(started_at=1.0, started_boottime=-200.0))
    bench.engine.states = {attempt.key: "running"}

    def full(*_: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(state_module, "write_file", full)
    watching = watcher(bench, bench.stage_out.finish)
    watching.tick()
    time.sleep(0.2)
    watching.tick()
    assert bench.engine.signals == [(attempt.key, "TERM"), (attempt.key, "KILL")]
    state = bench.store.get(attempt)
    assert state is not None
    assert state.time_limit_at is not None


def test_a_full_disk_before_the_start_was_noted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M1: an agent that cannot write the start of a job still remembers it and counts its time."""
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "running"}

    def full(*_: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(state_module, "write_file", full)
    watcher(bench, bench.stage_out.finish).tick()
    state = bench.store.get(attempt)
    assert state is not None
    assert state.started_boottime is not None


def test_a_machine_without_memory_is_noted(tmp_path: Path) -> None:
    """M8: with a FAKE of /proc/meminfo, as a test must not use up this machine's memory."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\nHugePages_Total: 0\n")
    assert not is_memory_full(meminfo)
    meminfo.write_text("MemTotal: 16000000 kB\nMemAvailable: 300000 kB\n")
    assert is_memory_full(meminfo)
    assert not is_memory_full(tmp_path / "none")


def test_a_noted_problem_that_nomad_forgot_is_ended(bench: Bench) -> None:
    ended = threading.Event()
    bench.add(attempt_state(phase=ASKING, grant=None, problem_outcome=Outcome.IMAGE_BROKEN))
    watching = watcher(bench, lambda _: ended.set(), unclaimed_ended_s=0.1)
    watching.tick()
    time.sleep(0.2)
    watching.tick()
    assert ended.wait(5)


def test_a_stage_in_at_work_is_not_ended(bench: Bench) -> None:
    attempt = bench.add(attempt_state(phase=ASKING, grant=None))
    ended = threading.Event()
    watching = watcher(bench, lambda _: ended.set(), unclaimed_never_started_s=0.1)
    watching.tick()
    time.sleep(0.2)
    with bench.store.work_lock(attempt):
        watching.tick()
    # The time begins when the work is done.
    watching.tick()
    assert not ended.wait(0.2)


@pytest.mark.parametrize("word", ["running", None])
def test_a_cancelled_attempt_that_nobody_ends_is_ended(bench: Bench, word: str | None) -> None:
    """Nomad lost it, or was killed before it could stop it; the job runs or never began."""
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: word} if word else {}
    ended = threading.Event()
    watching = watcher(bench, lambda _: ended.set(), cancelled=0.1)
    watching.cancel(attempt)
    watching.tick()
    time.sleep(0.2)
    with bench.store.work_lock(attempt):
        watching.tick()
    assert not ended.wait(0.1)
    watching.cancel(attempt)
    watching.tick()
    assert ended.wait(5)


def test_a_thread_that_cannot_be_started_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H6: while a job's fork bomb uses up all threads, no attempt counts as being ended."""

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    attempt = bench.add(attempt_state(problem_outcome=Outcome.INPUT_BROKEN))
    ended: list[AttemptId] = []
    watching = watcher(bench, ended.append, unclaimed_ended_s=0.0)
    engine: Any = bench.engine
    use = DiskUse(
        DiskMeter(engine, bench.access, bench.folders), Disks(bench.folders.root, lambda: Path("/"))
    )
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        for _ in range(3):
            watching.tick()
            assert use.of(attempt.key, "container", 1) is None
    measured: list[str] = []
    monkeypatch.setattr(use, "_measure", lambda latest, key, _: measured.append(key))
    use.of(attempt.key, "container", 1)
    watching.tick()
    deadline = time.monotonic() + 20
    while not (ended and measured):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert (ended, measured) == ([attempt], [attempt.key])
