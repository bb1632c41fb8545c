"""What the agent does when something around it fails: FAKES of Docker, the store, the service."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from leruli_node import folders as folders_module
from leruli_node import state as state_module
from leruli_node.agent import Agent
from leruli_node.docker_engine import DockerAway, DockerRefused, Listed, missing_limits
from leruli_node.errors import Interrupted
from leruli_node.folders import BALLAST, Folders, make_ballast, make_folders, write_file
from leruli_node.main_script import write_control
from leruli_node.processes import raise_file_limit
from leruli_node.receipts import Receipts
from leruli_node.retry import Stop
from leruli_node.rundir_access import RundirAccess
from leruli_node.server import Answer, StageServer
from leruli_node.service_api import ServiceApi, Stale, Unreachable
from leruli_node.stage_in import FAILED, StageIn
from leruli_node.stage_out import StageOut
from leruli_node.state import ASKING, DECIDED, STAGED, AttemptId, AttemptState, AttemptStore, Lease
from leruli_node.sweep import sweep
from leruli_node.upload import Uploaded
from leruli_node.watcher import Watcher

LEASE = Lease("bucket", "psi4", "1.5", 1, 4000, 100.0)


def attempt_state(number: int = 1, **more: Any) -> AttemptState:
    return dataclasses.replace(
        AttemptState(
            job=f"00000000-0000-4000-8000-{number:012}",
            attempt=1,
            alloc="a",
            startkey="k",
            phase=STAGED,
            boot_id=state_module.boot_id(),
            lease=LEASE,
        ),
        **more,
    )


class FakeEngine:
    """Docker with the containers of `states`: attempt key to Docker's word."""

    def __init__(self, states: dict[str, str] | None = None) -> None:
        self.states = states or {}
        self.exit_code = 0
        self.away = False
        self.refuses: set[str] = set()
        self.signals: list[tuple[str, str]] = []
        self.removed: list[str] = []

    def list_own(self, nodeid: str, attempt_key: str | None = None) -> list[Listed]:
        if self.away:
            raise DockerAway("away")
        return [
            Listed(key, key, word)
            for key, word in self.states.items()
            if attempt_key in (None, key)
        ]

    def inspect(self, container: str) -> dict[str, Any] | None:
        if container in self.refuses:
            raise DockerRefused("no")
        if container not in self.states:
            return None
        word = self.states[container]
        return {
            "Id": container,
            "State": {
                "Running": word == "running",
                "ExitCode": self.exit_code,
                "StartedAt": "2020-01-01T00:00:00Z",
                "FinishedAt": "2020-01-01T00:00:10Z",
            },
        }

    def usage(self, container: str) -> None:
        return None

    def was_signalled(self, container: str, since: float, until: float) -> bool:
        return False

    def signal(self, container: str, name: str) -> None:
        self.signals.append((container, name))

    def remove(self, container: str) -> None:
        self.removed.append(container)
        self.states.pop(container, None)


class FakeAccess(RundirAccess):
    """Rootless access that fails while `failures` lasts."""

    def __init__(self) -> None:
        super().__init__(Path("/none"), lambda: False)
        self.failures = 0

    def take(self, folder: Path) -> bool:
        self.failures -= 1
        return self.failures < 0


class FakeApi:
    """The service's side of stage-out."""

    def __init__(self) -> None:
        self.asked = 0
        self.stale_after = 10**9
        self.received: list[dict[str, Any]] = []

    def may_upload(self, attempt: AttemptId) -> None:
        self.asked += 1
        if self.asked > self.stale_after:
            raise Stale("it is not current")

    def patiently(self, call: Any, backoff: Any, *args: Any) -> Any:
        return call(*args)

    def end(self, body: dict[str, Any]) -> None:
        self.received.append(body)


class FakeUploader:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[Path | None] = []

    def upload(
        self, bucket: str, rundir: Path | None, sentence: str | None, stop: Stop
    ) -> Uploaded:
        self.calls.append(rundir)
        if stop.wait(self.seconds) if self.seconds else stop.is_set():
            raise Interrupted
        return Uploaded(1, 1, [])


class Bench:
    """A StageOut with fakes around it and a real store, spool and folder."""

    def __init__(self, tmp_path: Path) -> None:
        self.folders: Folders = make_folders(tmp_path / "n")
        self.store = AttemptStore(self.folders.attempts)
        self.engine, self.access, self.api = FakeEngine(), FakeAccess(), FakeApi()
        self.uploader = FakeUploader()
        self.stop = threading.Event()
        api: Any = self.api
        self.receipts = Receipts(self.folders.receipts, api, lambda _: None)
        engine: Any = self.engine
        uploader: Any = self.uploader
        self.stage_out = StageOut(
            self.folders,
            self.store,
            api,
            engine,
            self.access,
            uploader,
            self.receipts,
            1.0,
            self.stop,
            lambda _: None,
            docker_patience=0.3,
            renewal=0.05,
        )
        self.stage_out.nodeid = "node"
        self.receipts.start()

    def add(self, state: AttemptState) -> AttemptId:
        self.store.create(state)
        job = self.folders.job(state.id.key)
        job.mkdir()
        (job / "rundir").mkdir()
        write_control(job / "control")
        return state.id

    def finish(self, attempt: AttemptId) -> dict[str, Any]:
        self.stage_out.finish(attempt)
        (receipt,) = self.api.received
        return receipt


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path)
    yield made
    made.receipts.stop()


def test_output_is_brought_when_docker_is_away_for_long(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    (bench.folders.job(attempt.key) / "control" / "started").mkdir()
    bench.engine.away = True
    assert bench.finish(attempt)["outcome"] == "node_trouble"
    assert bench.uploader.calls == [bench.folders.job(attempt.key) / "rundir"]


def test_files_of_rootless_docker_are_asked_for_again(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.access.failures = 1
    receipt = bench.finish(attempt)
    assert bench.access.failures < 0
    assert (receipt["outcome"], receipt["message"]) == ("ended", None)


def test_files_that_stay_unreadable_are_told(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.access.failures = 10**6
    assert "readable" in bench.finish(attempt)["message"]


def test_leave_is_renewed_while_uploading(bench: Bench) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    bench.uploader.seconds = 0.4
    assert bench.finish(attempt)["outcome"] == "ended"
    assert bench.api.asked > 3


def test_an_upload_without_leave_is_stopped(bench: Bench) -> None:
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
    bench.stage_out._decide(attempt, attempt_state())
    kept = file.read_bytes()
    bench.finish(attempt)
    assert len(bench.uploader.calls) == 1
    file.write_bytes(kept)
    bench.store = AttemptStore(bench.folders.attempts)
    bench.stage_out._store = bench.store
    # The service has its receipt.
    bench.api.stale_after = bench.api.asked
    bench.stage_out.finish(attempt)
    assert bench.store.all() == []
    assert not file.exists()
    assert len(bench.uploader.calls) == 1
    assert len(bench.api.received) == 1


def test_stage_out_goes_on_after_a_surprise(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = bench.add(attempt_state())
    bench.engine.states = {attempt.key: "exited"}
    surprises = [ValueError("odd")]
    real = bench.receipts.spool

    def spool(attempt: AttemptId, body: dict[str, Any]) -> None:
        if surprises:
            raise surprises.pop()
        real(attempt, body)

    monkeypatch.setattr(bench.receipts, "spool", spool)
    assert bench.stage_out(attempt, "a") == Answer(0)
    assert len(bench.api.received) == 1
    assert "ValueError: odd" in caplog.text


@pytest.mark.parametrize(
    ("docker_says", "noted", "given_back"),
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
def test_what_is_given_back_at_the_end(
    bench: Bench, docker_says: str | None, noted: dict[str, float], given_back: bool
) -> None:
    attempt = bench.add(attempt_state(**noted))
    (bench.folders.job(attempt.key) / "rundir" / "result").write_text("precious")
    if docker_says:
        bench.engine.states = {attempt.key: docker_says}
    agent: Any = object.__new__(Agent)
    agent._facts = state_module.NodeFacts("node")
    agent._engine, agent._store, agent._stage_out = bench.engine, bench.store, bench.stage_out
    agent._sweep = lambda nodeid: None
    agent._give_back()
    assert (bench.folders.job(attempt.key) / "rundir" / "result").exists() is not given_back
    state = bench.store.get(attempt)
    assert (state is None) is given_back
    if state is not None:
        assert state.phase == DECIDED
    assert attempt.key not in bench.engine.states


# Watching


def watcher(bench: Bench, finish: Callable[[AttemptId], None], **more: float) -> Watcher:
    engine: Any = bench.engine
    made = Watcher(bench.store, engine, 0.1, finish, **more)
    made.nodeid = "node"
    return made


def test_one_attempts_trouble_does_not_end_the_round(bench: Bench) -> None:
    first = bench.add(attempt_state(1))
    second = bench.add(attempt_state(2))
    bench.engine.states = {first.key: "running", second.key: "running"}
    bench.engine.refuses = {first.key}
    watcher(bench, bench.stage_out.finish).look()
    assert bench.engine.signals == [(second.key, "TERM")]


def test_docker_away_ends_the_round(bench: Bench) -> None:
    bench.add(attempt_state())
    bench.engine.away = True
    with pytest.raises(DockerAway):
        watcher(bench, bench.stage_out.finish).look()


def test_the_time_limit_holds_on_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = bench.add(attempt_state(started_at=1.0))
    bench.engine.states = {attempt.key: "running"}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(state_module, "write_file", full)
    watching = watcher(bench, bench.stage_out.finish)
    watching.look()
    time.sleep(0.2)
    watching.look()
    assert bench.engine.signals == [(attempt.key, "TERM"), (attempt.key, "KILL")]
    state = bench.store.get(attempt)
    assert state is not None
    assert state.time_limit_at is not None


def test_a_noted_problem_that_nomad_forgot_is_ended(bench: Bench) -> None:
    ended = threading.Event()
    bench.add(attempt_state(phase=ASKING, lease=None, problem_outcome="image_broken"))
    watching = watcher(bench, lambda _: ended.set(), abandoned_ended=0.1)
    watching.look()
    time.sleep(0.2)
    watching.look()
    assert ended.wait(5)


def test_a_stage_in_at_work_is_not_abandoned(bench: Bench) -> None:
    attempt = bench.add(attempt_state(phase=ASKING, lease=None))
    ended = threading.Event()
    watching = watcher(bench, lambda _: ended.set(), abandoned_never_started=0.1)
    watching.look()
    time.sleep(0.2)
    with bench.store.work_lock(attempt):
        watching.look()
    # Its time begins when the work is done.
    watching.look()
    assert not ended.wait(0.2)


# Stage-in


def stage_in(bench: Bench, images: Any, objects: Any = None) -> StageIn:
    class Api(FakeApi):
        def start(self, attempt: AttemptId, startkey: str) -> dict[str, Any]:
            return dataclasses.asdict(LEASE)

    api: Any = Api()
    made = StageIn(
        bench.folders,
        bench.store,
        api,
        images,
        objects,
        bench.access,
        1.0,
        10,
        10,
        bench.stop,
        threading.Event(),
    )
    made.image_prefix = "p"
    return made


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
    assert state.boot_id == state_module.boot_id()


def test_no_new_attempt_without_ballast(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    answer = stage_in(bench, NoImages())(ATTEMPT, "a")
    assert answer == Answer(FAILED, "the node's disk is full")
    state = bench.store.get(ATTEMPT)
    assert state is not None
    assert (state.problem_outcome, state.lease) == ("node_trouble", None)


# The disk


def test_ballast_is_given_up_for_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders_module, "_BALLAST_BYTES", 2**20)
    (tmp_path / "attempts").mkdir()
    assert make_ballast(tmp_path)
    assert (tmp_path / BALLAST).stat().st_blocks * 512 >= 2**20
    assert make_ballast(tmp_path)
    real, note = os.fsync, tmp_path / "attempts" / "x.json"

    def fsync(descriptor: int) -> None:
        if (tmp_path / BALLAST).exists():
            raise OSError(errno.ENOSPC, "full")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_file(note, b"kept")
    assert note.read_bytes() == b"kept"
    assert [path.name for path in note.parent.iterdir()] == ["x.json"]
    assert not (tmp_path / BALLAST).exists()


def test_left_overs_of_a_broken_state_stay(bench: Bench) -> None:
    state = attempt_state()
    path = bench.folders.attempts / f"{state.id.id}.json"
    path.write_text("{")
    bench.store = AttemptStore(bench.folders.attempts)
    for key in (state.id.key, attempt_state(2).id.key):
        bench.folders.job(key).mkdir()
        bench.engine.states[key] = "running"
    engine: Any = bench.engine
    assert sweep("node", bench.folders, bench.store, engine, bench.access) == 2
    assert list(bench.engine.states) == [state.id.key]
    assert bench.folders.job(state.id.key).exists()


def test_file_limit() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    try:
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# Docker


def test_limits_that_docker_does_not_enforce() -> None:
    assert missing_limits({"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}) == []
    assert missing_limits({"CpuCfsQuota": True, "PidsLimit": False}) == ["memory", "processes"]


def test_taking_files_tells_whether_it_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert RundirAccess(tmp_path / "s", lambda: False).take(tmp_path)
    rootless = RundirAccess(tmp_path / "docker.sock", lambda: True)
    assert not rootless.take(tmp_path)
    (tmp_path / "docker.pid").write_text(str(os.getpid()))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not rootless.take(tmp_path)
    (tmp_path / "nsenter").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "nsenter").chmod(0o755)
    assert rootless.take(tmp_path)


# The service and the stage tasks


def test_404_is_no_word_about_an_attempt() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = b'{"detail": "Not Found"}'
            self.send_response(int(self.path.rsplit("/", 1)[1] == "attempt-upload") * 5 + 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    api = ServiceApi(f"http://127.0.0.1:{server.server_address[1]}")
    api.set_token("t")
    try:
        with pytest.raises(Unreachable):
            api.end({})
        with pytest.raises(Stale):
            api.may_upload(ATTEMPT)
    finally:
        api.close()
        server.shutdown()
        server.server_close()


def test_delivering_goes_on_after_a_surprise(tmp_path: Path) -> None:
    class Api(FakeApi):
        def end(self, body: dict[str, Any]) -> None:
            self.asked += 1
            if self.asked == 1:
                raise ValueError("odd")
            super().end(body)

    api: Any = Api()
    receipts = Receipts(tmp_path, api, lambda _: None)
    receipts.spool(ATTEMPT, {"outcome": "ended"})
    receipts.start()
    try:
        assert receipts.wait_empty(15)
    finally:
        receipts.stop()


def test_an_error_of_the_handler_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import socket

    def failing(attempt: AttemptId, alloc: str) -> Answer:
        raise OSError(errno.ENOSPC, "the disk is full")

    server = StageServer(tmp_path / "s", failing, failing)
    server.start()
    with socket.socket(socket.AF_UNIX) as task:
        task.connect(str(tmp_path / "s"))
        task.sendall(f"out {ATTEMPT.job} 1 a\n".encode())
        assert task.recv(100) == b""
    server.stop()
    assert "the disk is full" in caplog.text
