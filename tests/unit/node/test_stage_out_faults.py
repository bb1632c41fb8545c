"""Stage-out while a part around it fails: FAKES of Docker, the store, the service."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from node_faults import Bench, attempt_state

from leruli_node.attempts import sweep as sweep_module
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.attempts.sweep import Sweeper, sweep
from leruli_node.container.docker_engine import DockerRefusedError
from leruli_node.files import trash as trash_module
from leruli_node.lifetime import Lifetime
from leruli_node.model import DECIDED, AttemptId, AttemptState, Decision
from leruli_node.outcomes import Outcome
from leruli_node.shutdown import Shutdown


def test_output_is_uploaded_when_docker_is_away_for_long(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    (bench.folders.job(attempt.key) / "control" / "started").mkdir()
    bench.engine.away = True
    assert bench.finish(attempt)["outcome"] == "node_trouble"
    assert bench.uploader.calls == [bench.folders.job(attempt.key) / "rundir"]


def test_an_outcome_that_this_version_does_not_know_reaches_the_service(bench: Bench) -> None:
    """An older agent follows a newer one; a newer service may know the word."""
    decided = attempt_state(decision=Decision(Outcome.ENDED, exitcode=0), phase=DECIDED, ran=True)
    newer = AttemptState.from_bytes(decided.to_bytes().replace(b'"ended"', b'"checkpointed"'))
    receipt = bench.finish(bench.add(newer))
    assert (receipt["outcome"], receipt["exitcode"]) == ("checkpointed", 0)


def test_taking_files_of_rootless_docker_is_retried(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.access.failures = 1
    receipt = bench.finish(attempt)
    assert bench.access.failures < 0
    assert (receipt["outcome"], receipt["message"]) == ("ended", None)


def test_files_that_stay_unreadable_are_reported(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.access.failures = 10**6
    assert "readable" in bench.finish(attempt)["message"]


def test_the_lease_is_renewed_while_uploading(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.uploader.seconds = 0.4
    assert bench.finish(attempt)["outcome"] == "ended"
    assert bench.api.asked > 3


def test_an_upload_without_a_lease_is_stopped(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.uploader.seconds = 20.0
    bench.api.stale_after = 2
    started = time.monotonic()
    bench.stage_out.finish(attempt)
    assert time.monotonic() - started < 5
    assert bench.api.received == []
    assert bench.store.all() == []
    assert bench.engine.states == {}
    assert not bench.folders.job(attempt.key).exists()


def test_an_attempt_whose_removal_a_power_cut_undid_uploads_nothing(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    file = bench.folders.attempts / f"{attempt.id}.json"
    bench.settlement.settle(attempt, attempt_state())
    kept = file.read_bytes()
    bench.finish(attempt)
    assert len(bench.uploader.calls) == 1
    file.write_bytes(kept)
    # The next agent reads this from disk.
    AttemptStore.__init__(bench.store, bench.folders.attempts)
    # The service has its receipt.
    bench.api.stale_after = bench.api.asked
    bench.stage_out.finish(attempt)
    assert bench.store.all() == []
    assert not file.exists()
    assert len(bench.uploader.calls) == 1
    assert len(bench.api.received) == 1


def test_stage_out_goes_on_after_an_unexpected_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    surprises = [ValueError("odd")]
    real = bench.receipts.spool

    def spool(attempt: AttemptId, body: dict[str, Any], is_gathered: bool) -> None:
        if surprises:
            raise surprises.pop()
        real(attempt, body, is_gathered)

    monkeypatch.setattr(bench.receipts, "spool", spool)
    assert bench.stage_out(attempt, "a") == Answer(0)
    assert len(bench.api.received) == 1
    assert "ValueError: odd" in caplog.text


@pytest.mark.parametrize(
    ("docker_says", "noted", "is_requeued"),
    [
        ("exited", {}, False),
        ("exited", {"started_at": 1.0}, False),
        ("running", {"started_at": 1.0}, True),
        ("paused", {"started_at": 1.0}, True),
        ("created", {}, True),
        (None, {}, True),
        (None, {"started_at": 1.0}, False),
    ],
)
def test_attempts_that_are_requeued_at_shutdown(
    bench: Bench, docker_says: str | None, noted: dict[str, float], is_requeued: bool
) -> None:
    attempt = bench.add(attempt_state(**noted))
    (bench.folders.job(attempt.key) / "rundir" / "result").write_text("precious")
    if docker_says:
        bench.engine.states = {attempt.key: docker_says}
    base = SimpleNamespace(
        settings=SimpleNamespace(drain_seconds=1.0),
        lifetime=Lifetime(bench.store),
        identity=bench.identity,
        api=bench.api,
        engine=bench.engine,
        store=bench.store,
    )
    parts: Any = SimpleNamespace(
        base=base,
        stage_out=bench.stage_out,
        sweeper=SimpleNamespace(sweep=lambda nodeid: None),
        shared=SimpleNamespace(running=set, end_all=lambda: None),
    )
    Shutdown(parts)._requeue_running()
    assert (bench.folders.job(attempt.key) / "rundir" / "result").exists() is not is_requeued
    state = bench.store.get(attempt)
    assert (state is None) is is_requeued
    if state is not None:
        assert state.phase == DECIDED
    assert attempt.key not in bench.engine.states


def test_a_failing_clean_up_delays_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """H2: when the clean-up fails, receipt and answer are still sent, and the agent starts."""
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}

    def odd(*_: object) -> None:
        raise RecursionError("odd")

    monkeypatch.setattr(bench.engine, "remove", odd)
    monkeypatch.setattr("leruli_node.files.trash.remove_tree", odd)
    assert bench.stage_out(attempt, "a") == Answer(0)
    assert len(bench.api.received) == 1
    assert not bench.folders.job(attempt.key).exists()
    api: Any = bench.api
    api.end = odd
    bench.receipts.spool(attempt, {"outcome": "ended"})
    again = Receipts(bench.folders.receipts, api, odd)
    again.start()
    again.stop()


def test_each_sweep_retries_what_could_not_be_removed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """H2: a left-over that cannot be removed is logged and retried, and stops no other."""
    real, stuck = trash_module.remove_tree, [OSError(errno.EIO, "Input/output error")] * 2

    def failing(top: Path) -> OSError | None:
        return stuck.pop() if stuck and top.name.startswith("stuck") else real(top)

    monkeypatch.setattr(trash_module, "remove_tree", failing)
    for name in ("stuck", "x"):
        (bench.folders.jobs / name).mkdir()
    engine: Any = bench.engine
    assert sweep("node", bench.folders, bench.store, engine, bench.trash) == 2
    left = bench.folders.trash.iterdir
    wait_until(lambda: "Input/output error. The agent tries again" in caplog.text)
    wait_until(lambda: [p.name.split(".")[0] for p in left()] == ["stuck"])
    sweep("node", bench.folders, bench.store, engine, bench.trash)
    wait_until(lambda: not list(left()))


def test_a_container_that_docker_did_not_remove_is_swept_soon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "_SOON", 0.05)
    engine: Any = bench.engine
    cache: Any = SimpleNamespace(sweep=lambda: None)
    sweeper = Sweeper(
        bench.folders,
        bench.store,
        engine,
        bench.trash,
        cache,
        lambda _: None,
        bench.sweep_soon,
    )
    thread = threading.Thread(target=sweeper.run, args=("node", bench.stop), daemon=True)
    thread.start()
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    with monkeypatch.context() as restarting:
        restarting.setattr(bench.engine, "remove", refuse)
        assert bench.stage_out(attempt, "a") == Answer(0)
    wait_until(lambda: bench.engine.removed == [attempt.key])
    bench.stop.set()
    thread.join(10)
    assert not thread.is_alive()


def refuse(container: str) -> None:
    raise DockerRefusedError(f"{container} is busy")


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
