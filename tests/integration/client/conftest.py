"""A real S3 server, a fake of the HTTP service, and the client as a process of its own."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import client_fake_service as fake
import pytest
from batch_world import COUNT, submitting
from folder_world import SUBMIT
from fork_server import ROOT, ForkServer, fork_server
from objects_world import running_objects
from queue_world import QueueOfTest, running_queue
from service_world import GroupOfTest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CLI = str(ROOT / "cli")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real S3 server."""
    with running_objects(tmp_path_factory.mktemp("s3")) as server:
        _publish(server, fake.GROUP_TOKEN)
        yield server


def _publish(server: Any, token: str) -> None:
    """Put placeholders for the images of the tests into a group's bucket."""
    from leruli.settings import StorageSettings
    from leruli.storage.store import Store

    host = server.url.removeprefix("http://")
    store = Store(StorageSettings(host, False, server.access, server.secret))
    store.make_bucket(f"code-{token}")
    for version in ("1.5", "1.3.2"):
        store.put(f"code-{token}", f"psi4-{version}.tgz", b"an image")


@pytest.fixture(scope="session")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueOfTest]:
    """A real PostgreSQL and a real copy of the service."""
    with running_queue(tmp_path_factory.mktemp("queue")) as running:
        yield running


@pytest.fixture
def group(queue: QueueOfTest, s3: Any) -> GroupOfTest:
    """A group in the real service, whose images are published."""
    made = queue.make_group(f"group-{next(_numbers)}")
    _publish(s3, made.token)
    return made


@pytest.fixture
def real(
    clients: ForkServer,
    queue: QueueOfTest,
    group: GroupOfTest,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Run the client, as the user ada, against the real service and the real storage."""
    values = {
        "LERULI_BASEURL": queue.url,
        "LERULI_API_SECRET": group.user_secret,
        "LERULI_S3_SERVER": s3.url,
        "LERULI_S3_ACCESS": s3.access,
        "LERULI_S3_SECRET": s3.secret,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return _runner(clients, tmp_path)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A folder that holds the folders of a batch."""
    for number in range(COUNT):
        folder = tmp_path / f"case-{number:03}"
        folder.mkdir()
        (folder / "input.dat").write_text(f"{number}\n")
    return tmp_path


@pytest.fixture
def submitted(real: Run, cases: Path) -> list[Path]:
    """A batch whose folders all have a job."""
    assert real(*submitting()).returncode == 0
    return sorted(cases.glob("case-*"))


@pytest.fixture
def service() -> Iterator[Any]:
    """The FAKE service (see client_fake_service.py)."""
    state = fake.FakeService()
    server = fake.serve(state)
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def lost_answer() -> Any:
    return fake.LOST_ANSWER


@pytest.fixture
def environment(s3: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings, set for this process and those it starts."""
    values = {
        "LERULI_BASEURL": service.url,
        "LERULI_API_SECRET": fake.SECRET,
        "LERULI_S3_SERVER": s3.url,
        "LERULI_S3_ACCESS": s3.access,
        "LERULI_S3_SECRET": s3.secret,
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def store(s3: Any) -> Any:
    """The storage as the client sees it."""
    from leruli.settings import StorageSettings
    from leruli.storage.store import Store

    return Store(StorageSettings(s3.url.removeprefix("http://"), False, s3.access, s3.secret))


@pytest.fixture(scope="session")
def clients() -> Iterator[ForkServer]:
    with fork_server("leruli", {**os.environ, "PYTHONPATH": CLI}) as made:
        yield made


@pytest.fixture
def leruli(clients: ForkServer, environment: dict[str, str], tmp_path: Path) -> Run:
    """Run the client in a folder (by default the test's own) and wait for it."""
    return _runner(clients, tmp_path)


def _runner(clients: ForkServer, folder: Path) -> Run:
    def run(
        *arguments: str, cwd: Path = folder, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": CLI, **settings}
        return clients.run(arguments, cwd=cwd, env=env, timeout=120)

    return run


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """A small job folder."""
    folder = tmp_path / "water"
    (folder / "basis sets" / "empty").mkdir(parents=True)
    (folder / "input.dat").write_text("molecule { h2o }\n")
    (folder / "basis sets" / "größe.gbs").write_text("cc-pVDZ\n")
    return folder


@pytest.fixture
def job(real: Run, water: Path) -> Path:
    """A folder with a job."""
    assert real(*SUBMIT, cwd=water).returncode == 0
    return water


@pytest.fixture
def few(real: Run, tmp_path: Path) -> list[Path]:
    """A batch of three folders with jobs."""
    folders = [tmp_path / f"case-{number}" for number in range(3)]
    for folder in folders:
        folder.mkdir()
        (folder / "input.dat").write_text(folder.name)
    done = real("task-submit", "--batch", "case-*", "psi4", "1.5", "psi4", "input.dat")
    assert done.returncode == 0
    return folders
