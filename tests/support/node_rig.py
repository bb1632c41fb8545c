"""The rig of the node agent's tests: a real S3, a real Docker, the real agent process.

Containers are made with the Docker SDK as Nomad makes them: same mounts, labels, entrypoint.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from fork_server import ForkedProcess, ForkServer
from node_fake_service import FakeService
from node_input import pack
from node_store import Store
from objects_world import find_program

PACKAGE = Path(__file__).parents[2] / "node_setup"
# What the agent's Python starts with.
START = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE)}


DRIVER = find_program("LERULI_QUEUE_DRIVER", "leruli-driver")


def wait_for(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Job:
    job: str
    attempt: int
    bucket: str
    alloc: str
    grant: dict[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        return (self.job, self.attempt)

    @property
    def name(self) -> str:
        return f"{self.job}x{self.attempt}"

    @property
    def id(self) -> str:
        return f"{self.job.replace('-', '')}x{self.attempt}"


@dataclass
class Rig:
    """An agent process with all that it needs."""

    folder: Path
    store: Store
    service: FakeService
    group_token: str
    agents: ForkServer
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | ForkedProcess | None = None
    docker: Any = field(default_factory=docker.from_env)

    @property
    def node_dir(self) -> Path:
        return self.folder / "node"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def environment(self) -> dict[str, str]:
        # Most tests do not need Nomad; test_nomad.py and test_task_driver.py do.
        stand_in = self.folder / "nomad-stand-in"
        if not stand_in.exists():
            stand_in.write_text('#!/bin/sh\n[ "$1" = version ] || exec sleep 100000\n')
            stand_in.chmod(0o755)
        return {
            **START,
            "LERULI_BASEURL": self.service.url,
            "LERULI_GROUP_TOKEN": self.group_token,
            "LERULI_COMPUTE_SECRET": self.service.compute_secret,
            "LERULI_S3_SERVER": self.store.url,
            "LERULI_S3_ACCESS": self.store.access,
            "LERULI_S3_SECRET": self.store.secret,
            "LERULI_NODE_DIR": str(self.node_dir),
            "LERULI_NODE_NOMAD": str(stand_in),
            "LERULI_NODE_DRIVER": str(DRIVER),
            "LERULI_NODE_DOCKER_SOCKET": "/var/run/docker.sock",
            "LERULI_NODE_GRACE_SECONDS": "2",
            "LERULI_NODE_DRAIN_SECONDS": "10",
            "LERULI_NODE_LOG": "json",
            # A refusal is believed at once, not after minutes.
            "LERULI_NODE_REFUSED_SECONDS": "0",
            **self.settings,
        }

    @property
    def socket(self) -> Path:
        return self.node_dir / "run" / "agent.sock"

    def start(self, wait: bool = True) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = self.agents.start(
                ["run"],
                cwd=Path("/"),
                env=self.environment(),
                out=log.fileno(),
                err=log.fileno(),
            )
        if wait:
            wait_for(lambda: self.answers() or self.process.poll() is not None, 60, "agent")

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
            return True

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def publish(self, code: str, version: str, archive: bytes) -> None:
        self.store.put(f"code-{self.group_token}", f"{code}-{version}.tgz", archive)

    def job(
        self,
        command: str = "true",
        files: dict[str, bytes] | None = None,
        code: str = "plain",
        version: str = "1",
        timelimit: float = 60,
        memorymb: int = 256,
        run_tgz: bytes | None = None,
        attempt: int = 1,
        user: str = "1",
        goes_on: bool = False,
        share_container: bool = False,
    ) -> Job:
        bucket = self.store.bucket()
        self.store.put(bucket, "run.tgz", run_tgz or pack(files or {}, command))
        grant = {
            "bucketid": bucket,
            "code": code,
            "version": version,
            "cores": 1,
            "memorymb": memorymb,
            "timelimit": timelimit,
            "image": self.image_in_nomad(code, version),
            "user": user,
            "sharecontainer": share_container,
            "goeson": goes_on,
        }
        job = Job(str(uuid.uuid4()), attempt, bucket, str(uuid.uuid4()), grant)
        self.service.grants[job.key] = grant
        return job

    def image_in_nomad(self, code: str, version: str) -> str:
        return f"{self.service.prefix}-run/{uuid.uuid5(uuid.NAMESPACE_OID, code + version)}:run"

    def stage(self, direction: str, job: Job) -> subprocess.Popen[bytes]:
        environment = {
            "NOMAD_META_job": job.job,
            "NOMAD_META_attempt": str(job.attempt),
            "NOMAD_ALLOC_ID": job.alloc,
        }
        return subprocess.Popen(
            [DRIVER, direction, str(self.socket)],
            env=environment,
            stderr=subprocess.PIPE,
        )

    def stage_in(self, job: Job, seconds: float = 60) -> int:
        return self.stage("in", job).wait(seconds)

    def stage_out(self, job: Job, seconds: float = 90) -> int:
        return self.stage("out", job).wait(seconds)

    def run_container(self, job: Job, start: bool = True, more_volumes: Sequence[str] = ()) -> Any:
        """Create a container like Nomad, by nomad_jobs/calculation.nomad.hcl."""
        folder = self.node_dir / "jobs" / job.name
        container = self.docker.containers.create(
            job.grant["image"],
            entrypoint=["/bin/sh", "/leruli/main.sh"],
            working_dir="/rundir",
            network_mode="none",
            security_opt=["no-new-privileges"],
            init=False,
            # The test image has no locales; bash would complain in every joberr.txt.
            environment={"LC_ALL": "C"},
            mem_limit=f"{job.grant['memorymb']}m",
            memswap_limit=f"{job.grant['memorymb']}m",
            labels={"leruli.node": self.service.nodeid, "leruli.attempt": job.name},
            volumes=[f"{folder}/rundir:/rundir", f"{folder}/control:/leruli", *more_volumes],
            log_config=docker.types.LogConfig(type="none"),
        )
        if start:
            container.start()
        return container

    def run(self, job: Job) -> dict[str, Any]:
        """Stage in, run to the end, stage out. Return the receipt."""
        assert self.stage_in(job) == 0, self.log[-3000:]
        self.run_container(job).wait(timeout=60)
        assert self.stage_out(job) == 0
        return self.receipt(job)

    def receipt(self, job: Job) -> dict[str, Any]:
        return wait_for(lambda: self.service.receipts.get(job.key), 15, "a receipt")

    def containers(self) -> list[Any]:
        return self.docker.containers.list(
            all=True,
            filters={"label": f"leruli.node={self.service.nodeid}"},
            ignore_removed=True,
        )

    def runs(self) -> bool:
        """Return whether a container of the node runs."""
        return any(container.status == "running" for container in self.containers())

    def state(self, job: Job) -> dict[str, Any]:
        return json.loads((self.node_dir / "attempts" / f"{job.id}.json").read_bytes())

    def is_clean(self, job: Job) -> bool:
        labels = [c.labels.get("leruli.attempt") for c in self.containers()]
        return (
            job.name not in labels
            and not (self.node_dir / "jobs" / job.name).exists()
            and not (self.node_dir / "attempts" / f"{job.id}.json").exists()
        )

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for container in self.containers():
            container.remove(force=True, v=True)
        for image in self.docker.images.list():
            for name in image.tags:
                if name.startswith(self.service.prefix):
                    self.docker.images.remove(name)
        self.service.close()
        # As root, Nomad leaves a small memory file system in each task of ended allocations.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            point = line.split(" ")[1]
            if point.startswith(f"{self.node_dir}/"):
                subprocess.run(["umount", point], check=False)


def next_attempt(rig: Rig, job: Job, command: str | None = None) -> Job:
    """Return the next attempt of a job in its bucket, with its input unless a command is given."""
    other = rig.job(command or "true")
    if command:
        rig.store.put(job.bucket, "run.tgz", rig.store.get(other.bucket, "run.tgz"))
    grant = {**other.grant, "bucketid": job.bucket}
    after = Job(job.job, job.attempt + 1, job.bucket, other.alloc, grant)
    rig.service.grants[after.key] = grant
    return after
