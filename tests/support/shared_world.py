"""Shared containers of the real Docker with the real leruli-runner; the test is the slot.

It does to attempts what stage-in and a slot do: folders, state files, prepare, start, wait.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from objects_world import find_program

from leruli_node.attempts.store import AttemptStore
from leruli_node.container.disk_use import DiskMeter, Disks
from leruli_node.container.docker_engine import DockerEngine
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.files.trash import Trash
from leruli_node.folders import make_folders
from leruli_node.model import STAGED, AttemptId, AttemptState, StartGrant, boot_id
from leruli_node.slots.container import Ended
from leruli_node.slots.made import container_like
from leruli_node.slots.record import SlotRecord
from leruli_node.slots.shared import SharedContainers
from leruli_node.slots.shared_limits import SharedLimits, SharedMeter

SOCKET = Path("/var/run/docker.sock")


class SharedWorld:
    """A node agent's shared containers, without its slots."""

    def __init__(self, root: Path, image: str, memory_mb: int) -> None:
        self.nodeid = str(uuid.uuid4())
        self.image = image
        self.memory_mb = memory_mb
        self.docker = docker.from_env()
        self.folders = make_folders(root / "node")
        self.first = AttemptId(str(uuid.uuid4()), 1)
        self.grace = 2.0
        self.shared = self.new_agent()
        self.slot = SlotRecord(self.first.job, 1, "alloc", self._first_container())

    def new_agent(self) -> SharedContainers:
        """Begin as an agent that is started again; the one before was killed."""
        before = getattr(self, "shared", None)
        if before is not None:
            # The kernel closes the lines of a process that ends.
            for container in before._containers:
                container._disconnect()
        self.store = AttemptStore(self.folders.attempts)
        engine = DockerEngine(SOCKET)
        access = RundirAccess(SOCKET, lambda: False)
        trash = Trash(self.folders.trash, access.take)
        meter = SharedMeter(DiskMeter(engine, access, self.folders), engine)
        disks = Disks(self.folders.root, lambda: Path("/var/lib/docker"), None)
        self.shared = SharedContainers(
            self.folders,
            self.store,
            engine,
            access,
            trash,
            SharedLimits(self.store, meter, disks, self.grace),
            Path(find_program("LERULI_QUEUE_RUNNER", "leruli-runner")),
        )
        return self.shared

    def _first_container(self) -> dict[str, Any]:
        folder = self.folders.jobs / self.first.key
        for name in ("rundir", "control", "nomad/alloc"):
            (folder / name).mkdir(parents=True)
        made = self.docker.containers.create(
            self.image,
            entrypoint=["/bin/sh", "/leruli/main.sh"],
            working_dir="/rundir",
            network_mode="none",
            security_opt=["no-new-privileges"],
            environment={"LC_ALL": "C", "OMP_NUM_THREADS": "1", "NOMAD_META_job": "x"},
            mem_limit=f"{self.memory_mb}m",
            memswap_limit=f"{self.memory_mb}m",
            pids_limit=500,
            labels={"leruli.node": self.nodeid, "leruli.attempt": self.first.key},
            volumes=[
                f"{folder}/rundir:/rundir",
                f"{folder}/control:/leruli",
                f"{folder}/nomad/alloc:/alloc",
            ],
            log_config=docker.types.LogConfig(type="none"),
        )
        made.reload()
        image = self.docker.images.get(self.image)
        described = container_like(made.attrs, image.attrs["Config"].get("Env") or [])
        made.remove(v=True)
        return described

    def attempt(
        self,
        command: str,
        user: str = "ada",
        image: str | None = None,
        timelimit: float = 60.0,
        diskmb: int | None = None,
        cores: int = 1,
        files: dict[str, str] | None = None,
    ) -> AttemptId:
        """An attempt that stage-in has prepared."""
        attempt = AttemptId(str(uuid.uuid4()), 1)
        name = image or self.image
        code, _, version = name.partition(":")
        grant = StartGrant(
            "bucket", code, version, cores, self.memory_mb, timelimit, image=name, diskmb=diskmb
        )
        self.store.create(
            AttemptState(
                job=attempt.job,
                attempt=1,
                alloc="alloc",
                startkey="key",
                phase=STAGED,
                boot_id=boot_id(),
                grant=grant,
                slot=self.first.key,
                user=user,
                share_container=True,
            )
        )
        job = self.folders.job(attempt.key)
        (job / "control").mkdir(parents=True)
        rundir = job / "rundir"
        rundir.mkdir()
        rundir.chmod(0o777)
        for path, text in {**(files or {}), "run.sh": command}.items():
            (rundir / path).parent.mkdir(parents=True, exist_ok=True)
            (rundir / path).write_text(text)
        return attempt

    def begin(self, attempt: AttemptId) -> None:
        """Start an attempt."""
        self.shared.prepare(self.slot, attempt)
        self.shared.start(self.slot, attempt)

    def end_of(self, attempt: AttemptId, seconds: float = 60.0) -> Ended:
        """Wait for the end of an attempt that runs in a container."""
        assert self.shared.wait(self.slot, attempt, seconds)
        ended = self.shared.ended(self.slot, attempt)
        assert ended is not None
        return ended

    def run(self, attempt: AttemptId, seconds: float = 60.0) -> Ended:
        """Run an attempt to its end."""
        self.begin(attempt)
        return self.end_of(attempt, seconds)

    def read(self, attempt: AttemptId, name: str = "joblog.txt") -> str:
        """Return a file of an attempt that has ended."""
        return (self.folders.job(attempt.key) / "rundir" / name).read_text()

    def containers(self) -> list[Any]:
        """All shared containers of this node."""
        return self.docker.containers.list(
            all=True,
            filters={"label": [f"leruli.node={self.nodeid}", "leruli.shared"]},
            ignore_removed=True,
        )

    @property
    def rundir(self) -> Path:
        """The mounted folder of the only container."""
        [folder] = self.folders.shared.iterdir()
        return folder / "rundir"

    def close(self) -> None:
        """Remove everything."""
        self.shared.close(self.slot)
        for container in self.containers():
            container.remove(force=True, v=True)


@contextmanager
def shared_world(image: str, memory_mb: int = 128) -> Iterator[SharedWorld]:
    """A world whose folder other users of images may enter."""
    root = Path(tempfile.mkdtemp(prefix="shared-", dir=os.environ.get("TMPDIR", "/tmp")))
    root.chmod(0o755)
    world = None
    try:
        world = SharedWorld(root, image, memory_mb)
        yield world
    finally:
        if world is not None:
            world.close()
        shutil.rmtree(root, ignore_errors=True)
