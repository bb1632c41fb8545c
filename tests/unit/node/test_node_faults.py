"""Faults of the disk, Docker, the service and the stage handlers."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from node_faults import Bench, FakeApi, attempt_state

from leruli_node import folders as folders_module
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.stage_socket import Answer, StageServer
from leruli_node.attempts.store import AttemptStore
from leruli_node.attempts.sweep import sweep
from leruli_node.container.docker_answers import missing_limits
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.folders import BALLAST, lock_root, make_ballast, write_file
from leruli_node.model import AttemptId
from leruli_node.nomad.orphans import raise_file_limit
from leruli_node.service.service_api import ServiceApi, StaleError, UnreachableError
from leruli_node.slots.shared_folder import JobEnd

ATTEMPT = attempt_state().id


# The disk


def test_the_ballast_is_freed_for_a_state_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_the_ballast_is_freed_for_the_end_of_a_job_in_a_shared_container(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise its slot would try again until somebody else freed space."""
    monkeypatch.setattr(folders_module, "_BALLAST_BYTES", 2**20)
    root = bench.folders.root
    os.close(lock_root(root))
    job = bench.folders.job("a-key")
    job.mkdir()
    outside = root.parent / BALLAST
    outside.touch()
    assert make_ballast(root)
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if (root / BALLAST).exists():
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    end = JobEnd(exit_code=3, started_at=1.0, started_boottime=1.0)
    end.save(job)
    assert JobEnd.read(job) == end
    assert not (root / BALLAST).exists()
    assert outside.exists()


def test_left_overs_of_a_broken_state_stay(bench: Bench) -> None:
    state = attempt_state()
    path = bench.folders.attempts / f"{state.id.id}.json"
    path.write_text("{")
    bench.store = AttemptStore(bench.folders.attempts)
    for key in (state.id.key, attempt_state(2).id.key):
        bench.folders.job(key).mkdir()
        bench.engine.states[key] = "running"
    engine: Any = bench.engine
    assert sweep("node", bench.folders, bench.store, engine, bench.trash) == 2
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


def test_taking_files_returns_whether_it_worked(
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


# The service and the task driver


def test_404_says_nothing_about_an_attempt() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = b'{"detail": "Not Found"}'
            self.send_response(int(self.path.rsplit("/", 1)[1] == "attempt-upload") * 5 + 404)
            self.send_header("X-Request-ID", "as-the-real-one-has-it")
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
        with pytest.raises(UnreachableError):
            api.end({})
        with pytest.raises(StaleError):
            api.may_upload(ATTEMPT)
    finally:
        api.close()
        server.shutdown()
        server.server_close()


def test_delivering_goes_on_after_an_unexpected_error(tmp_path: Path) -> None:
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

    server = StageServer(tmp_path / "s", failing, failing, failing)
    server.start()
    with socket.socket(socket.AF_UNIX) as task:
        task.connect(str(tmp_path / "s"))
        task.sendall(f"out {ATTEMPT.job} 1 a\n".encode())
        assert task.recv(100) == b""
    server.stop()
    assert "the disk is full" in caplog.text


def test_requests_are_accepted_after_a_lack_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H6: too many open files, or a lack of threads, ended the driver's socket for good."""
    import socket

    server = StageServer(tmp_path / "s", *[lambda *_: Answer(0)] * 3)
    listener, faults = server._listener, [OSError(errno.EMFILE, "too many open files")]

    class Full:
        def accept(self) -> object:
            if faults:
                raise faults.pop()
            return listener.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(listener, name)

    monkeypatch.setattr(server, "_listener", Full())
    server.start()
    real, starts = threading.Thread.start, [RuntimeError("can't start new thread")]

    def start(thread: threading.Thread) -> None:
        if starts:
            raise starts.pop()
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    answers = []
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as task:
            task.settimeout(20)
            task.connect(str(tmp_path / "s"))
            with contextlib.suppress(ConnectionError):
                task.sendall(f"out {ATTEMPT.job} 1 a\n".encode())
            with contextlib.suppress(ConnectionError):
                answers.append(task.recv(100))
    server.stop()
    assert answers[-1] == b"0\n"
