from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from leruli_node import logs
from leruli_node.agent import Agent
from leruli_node.errors import AgentError
from leruli_node.folders import (
    LONGEST_SOCKET_PATH,
    lock_root,
    make_folders,
    remove_unfinished,
    write_file,
)
from leruli_node.settings import read_settings

COMPLETE = {
    "LERULI_BASEURL": "https://queue.example.org",
    "LERULI_GROUP_TOKEN": "lqg-token",
    "LERULI_COMPUTE_SECRET": "lqc-secret",
    "LERULI_S3_SERVER": "http://127.0.0.1:9000/",
    "LERULI_S3_ACCESS": "access-key",
    "LERULI_S3_SECRET": "secret-key",
}


def test_defaults() -> None:
    settings = read_settings(COMPLETE)
    assert settings.base_url == "https://queue.example.org"
    assert settings.s3_server == "http://127.0.0.1:9000"
    assert settings.node_dir == Path("/data/leruli/nomad")
    assert settings.grace_seconds == 30
    assert settings.node_name == socket.gethostname()
    assert settings.cores >= 1
    assert settings.memory_mb >= 64


def test_all_missing_settings_are_named_at_once() -> None:
    with pytest.raises(AgentError) as caught:
        read_settings({"LERULI_S3_ACCESS": "x", "LERULI_NODE_CORES": "two"})
    assert caught.value.exit_code == 78
    text = str(caught.value)
    for name in (
        "BASEURL",
        "GROUP_TOKEN",
        "COMPUTE_SECRET",
        "S3_SERVER",
        "S3_SECRET",
        "NODE_CORES",
    ):
        assert f"LERULI_{name}" in text
    assert "LERULI_S3_ACCESS" not in text


@pytest.mark.parametrize("name", ["NOMAD", "DRIVER"])
def test_a_program_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    programs = {"LERULI_NODE_NOMAD": "/bin/true", "LERULI_NODE_DRIVER": "/bin/true"}
    programs[f"LERULI_NODE_{name}"] = "/nowhere/program"
    settings = read_settings({**COMPLETE, **programs, "LERULI_NODE_DIR": str(tmp_path / "node")})
    with pytest.raises(AgentError, match=f"set LERULI_NODE_{name} to its path") as caught:
        Agent(settings)
    assert caught.value.exit_code == 69
    assert not (tmp_path / "node").exists()


def test_secret_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("from-a-file\n")
    environ = dict(COMPLETE)
    del environ["LERULI_S3_SECRET"]
    environ["LERULI_S3_SECRET_FILE"] = str(tmp_path / "s")
    assert read_settings(environ).s3_secret == "from-a-file"
    environ["LERULI_S3_SECRET_FILE"] = str(tmp_path / "none")
    with pytest.raises(AgentError, match="LERULI_S3_SECRET_FILE"):
        read_settings(environ)


def test_no_secret_in_the_repr() -> None:
    text = repr(read_settings(COMPLETE))
    for value in ("lqg-token", "lqc-secret", "access-key", "secret-key"):
        assert value not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LERULI_NODE_DIR", "/a:b"),
        ("LERULI_NODE_DIR", "/a${b}"),
        ("LERULI_S3_SERVER", "127.0.0.1:9000"),
        ("LERULI_BASEURL", "http://user@host"),
        ("LERULI_NODE_LOG", "loud"),
        ("LERULI_NODE_NAME", "a b"),
        ("LERULI_NODE_GRACE_SECONDS", "-1"),
    ],
)
def test_wrong_values(name: str, value: str) -> None:
    with pytest.raises(AgentError, match=name):
        read_settings({**COMPLETE, name: value})


def test_logs_hold_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("json", ["the-secret"])
        logging.getLogger("x").info("say %s", "the-secret", extra={"job": "the-secret!"})
        try:
            raise ValueError("the-secret")
        except ValueError:
            logging.getLogger("x").exception("it broke")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert "the-secret" not in "".join(lines)
    first = json.loads(lines[0])
    assert first["message"] == "say [secret]"
    assert first["job"] == "[secret]!"
    assert "ValueError" in json.loads(lines[1])["exception"]


def test_folders_are_private(tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "node")
    assert folders.root.stat().st_mode & 0o777 == 0o711
    for folder in (folders.attempts, folders.receipts, folders.jobs, folders.socket.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_socket_path_is_short_enough(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    folders = make_folders(deep)
    assert len(str(folders.socket)) <= LONGEST_SOCKET_PATH
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folders.socket))
    folders.socket.unlink()
    folders.socket.parent.rmdir()


def test_lock(tmp_path: Path) -> None:
    held = lock_root(tmp_path)
    assert held
    code = (
        "import sys; from pathlib import Path\n"
        "from leruli_node.folders import lock_root; from leruli_node.errors import AgentError\n"
        "try: lock_root(Path(sys.argv[1]))\n"
        "except AgentError as e: print(e); sys.exit(e.exit_code)"
    )
    import leruli_node

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": str(Path(leruli_node.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 73
    assert "already uses" in done.stdout


def test_write_file_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_file(path, b"1")
    write_file(path, b"22")
    assert path.read_bytes() == b"22"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_unfinished_files_of_a_killed_agent_are_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = make_folders(tmp_path / "node")
    kept = (folders.node_file, folders.attempts / "1x1.json", folders.receipts / "1x1.json")
    for path in kept:
        write_file(path, b"{}")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    # A FAKE: a real kill would end the test too.
    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    for path in kept:
        with pytest.raises(KeyboardInterrupt):
            write_file(path, b"{")
    monkeypatch.undo()
    assert len([*folders.root.rglob(".*.tmp")]) == len(kept)
    remove_unfinished(folders)
    assert [*folders.root.rglob(".*.tmp")] == []
    assert all(path.read_bytes() == b"{}" for path in kept)


@pytest.mark.parametrize("name", ["LERULI_BASEURL", "LERULI_S3_SERVER"])
def test_plain_http_to_another_machine_needs_a_setting(name: str) -> None:
    """D18: a node sent the group's secrets over plain http without a warning."""
    plain = {**COMPLETE, name: "http://10.0.0.1:8022"}
    with pytest.raises(AgentError, match="set LERULI_ALLOW_PLAIN_HTTP=1") as caught:
        read_settings(plain)
    assert (caught.value.exit_code, name in str(caught.value)) == (78, True)
    read_settings({**plain, "LERULI_ALLOW_PLAIN_HTTP": "1"})
    for host in ("127.0.0.1", "localhost", "[::1]:9"):
        read_settings({**COMPLETE, name: f"http://{host}"})
