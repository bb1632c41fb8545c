"""FAKES of Docker, the store and the service around a stage-out with real state files."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

from leruli_node.attempts.cleanup import Cleanup
from leruli_node.attempts.leased_upload import LeasedUpload
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.settle import Settlement
from leruli_node.attempts.stage_out import StageOut
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_answers import Listed
from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.container.main_script import write_control
from leruli_node.container.own_containers import OwnContainers
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.errors import StoppedError
from leruli_node.files.input_list import InputList
from leruli_node.files.trash import Trash
from leruli_node.files.upload import Uploaded
from leruli_node.folders import Folders, make_folders
from leruli_node.identity import NodeIdentity
from leruli_node.model import STAGED, AttemptId, AttemptState, StartGrant, boot_id
from leruli_node.objects.job_bucket import JobBucket
from leruli_node.retry import Stop
from leruli_node.service.service_api import StaleError

GRANT = StartGrant("bucket", "psi4", "1.5", 1, 4000, 100.0)


def attempt_state(number: int = 1, **more: Any) -> AttemptState:
    return dataclasses.replace(
        AttemptState(
            job=f"00000000-0000-4000-8000-{number:012}",
            attempt=1,
            alloc="a",
            startkey="k",
            phase=STAGED,
            boot_id=boot_id(),
            grant=GRANT,
        ),
        **more,
    )


class FakeEngine:
    """A Docker with the containers of `states`: attempt key to Docker's state."""

    def __init__(self, states: dict[str, str] | None = None) -> None:
        self.states = states or {}
        self.exit_code = 0
        self.away = False
        self.refuses: set[str] = set()
        self.signals: list[tuple[str, str]] = []
        self.removed: list[str] = []

    def list_own(self, nodeid: str, attempt_key: str | None = None) -> list[Listed]:
        if self.away:
            raise DockerUnavailableError("away")
        return [
            Listed(key, key, word)
            for key, word in self.states.items()
            if attempt_key in (None, key)
        ]

    def inspect(self, container: str) -> dict[str, Any] | None:
        if container in self.refuses:
            raise DockerRefusedError("no")
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

    def may_upload(self, attempt: AttemptId, timeout: float | None = None) -> float | None:
        self.asked += 1
        if self.asked > self.stale_after:
            raise StaleError("it is not current")
        return None

    def until_answered(self, call: Any, backoff: Any, *args: Any) -> Any:
        return call(*args)

    def end(self, body: dict[str, Any]) -> None:
        self.received.append(body)


class FakeUploader:
    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[Path | None] = []

    def upload(
        self,
        bucket: JobBucket,
        rundir: Path | None,
        sentence: str | None,
        stop: Stop,
        inputs: InputList,
    ) -> Uploaded:
        self.calls.append(rundir)
        if stop.wait(self.seconds) if self.seconds else stop.is_set():
            raise StoppedError
        return Uploaded(1, 1, [])


class Bench:
    """A StageOut with fakes around it and a real store, spool and folder."""

    def __init__(self, tmp_path: Path) -> None:
        self.folders: Folders = make_folders(tmp_path / "n")
        self.store = AttemptStore(self.folders.attempts)
        self.engine, self.access, self.api = FakeEngine(), FakeAccess(), FakeApi()
        self.trash = Trash(self.folders.trash, self.access.take)
        self.trash.start()
        self.uploader = FakeUploader()
        self.stop, self.sweep_soon = threading.Event(), threading.Event()
        api: Any = self.api
        self.receipts = Receipts(self.folders.receipts, api, lambda _: None)
        self.identity = NodeIdentity("node", "p")
        engine: Any = self.engine
        uploader: Any = self.uploader
        store: Any = None  # that uploader does not look into it
        containers = OwnContainers(engine, self.identity)
        self.settlement = Settlement(
            self.folders,
            self.store,
            engine,
            containers,
            self.access,
            1.0,
            self.stop,
            docker_retry_for_s=0.3,
        )
        self.stage_out = StageOut(
            self.store,
            containers,
            self.settlement,
            LeasedUpload(self.folders, api, store, uploader, self.stop, renewal=0.05),
            self.receipts,
            Cleanup(self.folders, self.store, containers, self.trash, self.sweep_soon),
            self.stop,
            lambda _: None,
        )
        self.receipts.start()

    def add(self, state: AttemptState) -> AttemptId:
        self.store.create(state)
        job = self.folders.job(state.id.key)
        job.mkdir()
        (job / "rundir").mkdir()
        write_control(job / "control", state.id, state.grant or GRANT)
        return state.id

    def finish(self, attempt: AttemptId) -> dict[str, Any]:
        self.stage_out.finish(attempt)
        (receipt,) = self.api.received
        return receipt
