"""What the tests of the node agent share: a real S3, a real Docker, the real agent process.

Containers are made with the Docker SDK as Nomad makes them: same mounts, labels, entrypoint.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import urllib3
from minio import Minio
from node_fake_service import FakeService
from objects_world import S3Server, find_program, running_objects

PACKAGE = Path(__file__).parents[3] / "node_setup"
PLAIN_IMAGE = "leruli-test:1"
USER_IMAGE = "leruli-test-user:1"


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
class Store:
    url: str
    access: str
    secret: str
    client: Minio

    @classmethod
    def of(cls, server: S3Server) -> Store:
        """A running server, with the key that it has now."""
        pool = urllib3.PoolManager(maxsize=16, retries=urllib3.Retry(total=3))
        client = Minio(
            server.url.removeprefix("http://"),
            access_key=server.access,
            secret_key=server.secret,
            secure=False,
            http_client=pool,
        )
        return cls(server.url, server.access, server.secret, client)

    def bucket(self) -> str:
        name = str(uuid.uuid4())
        self.client.make_bucket(name)
        return name

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self.client.put_object(bucket, name, io.BytesIO(data), len(data))

    def get(self, bucket: str, name: str) -> bytes:
        response = self.client.get_object(bucket, name)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def names(self, bucket: str) -> set[str]:
        return {str(o.object_name) for o in self.client.list_objects(bucket, recursive=True)}


@contextmanager
def running_store(folder: Path) -> Iterator[Store]:
    with running_objects(folder) as server:
        yield Store.of(server)


def save_image(image: str, name: str) -> bytes:
    """`docker save` of an image under another name, gzipped as `leruli` publishes it.

    The name is written into the archive: tests side by side have one Docker, whose names the
    agents of others give and take away.
    """
    saved = io.BytesIO(b"".join(docker.from_env().images.get(image).save()))
    renamed = io.BytesIO()
    with tarfile.open(fileobj=saved) as source, tarfile.open(fileobj=renamed, mode="w") as target:
        for member in source:
            content = source.extractfile(member)
            if member.name == "manifest.json":
                assert content
                manifest = json.load(content)
                manifest[0]["RepoTags"] = [name]
                data = json.dumps(manifest).encode()
                member.size, content = len(data), io.BytesIO(data)
            if member.name != "repositories":
                target.addfile(member, content)
    return gzip.compress(renamed.getvalue(), 1)


def pack(files: dict[str, bytes], command: str) -> bytes:
    """run.tgz as the published client makes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        for name, content in {f"./{n}": c for n, c in files.items()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        script = ("#!/bin/bash\n" + command).encode()
        member = tarfile.TarInfo("run.sh")
        member.size = len(script)
        archive.addfile(member, io.BytesIO(script))
    return data.getvalue()


@dataclass
class Job:
    job: str
    attempt: int
    bucket: str
    alloc: str
    lease: dict[str, Any]

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
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    docker: Any = field(default_factory=docker.from_env)

    @property
    def node_dir(self) -> Path:
        return self.folder / "node"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def environment(self) -> dict[str, str]:
        # Most tests do not need Nomad; the one of tests/integration/node/test_nomad.py does.
        stand_in = self.folder / "nomad-stand-in"
        if not stand_in.exists():
            stand_in.write_text('#!/bin/sh\n[ "$1" = version ] || exec sleep 100000\n')
            stand_in.chmod(0o755)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PACKAGE),
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
            # What the service refuses is not asked for minutes.
            "LERULI_NODE_REFUSED_SECONDS": "0",
            **self.settings,
        }

    @property
    def socket(self) -> Path:
        return self.node_dir / "run" / "agent.sock"

    def start(self, wait: bool = True) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "leruli_node", "run"],
                env=self.environment(),
                stderr=log,
                stdout=log,
                cwd="/",
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
    ) -> Job:
        bucket = self.store.bucket()
        self.store.put(bucket, "run.tgz", run_tgz or pack(files or {}, command))
        lease = {
            "bucketid": bucket,
            "code": code,
            "version": version,
            "cores": 1,
            "memorymb": memorymb,
            "timelimit": timelimit,
            "image": self.image_in_nomad(code, version),
        }
        job = Job(str(uuid.uuid4()), attempt, bucket, str(uuid.uuid4()), lease)
        self.service.leases[job.key] = lease
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
        """As Nomad's docker driver does from nomad_jobs/job.nomad.hcl."""
        folder = self.node_dir / "jobs" / job.name
        container = self.docker.containers.create(
            job.lease["image"],
            entrypoint=["/bin/sh", "/leruli/main.sh"],
            working_dir="/rundir",
            network_mode="none",
            security_opt=["no-new-privileges"],
            init=False,
            # The test image has no locales; bash would complain in every joberr.txt.
            environment={"LC_ALL": "C"},
            mem_limit=f"{job.lease['memorymb']}m",
            memswap_limit=f"{job.lease['memorymb']}m",
            labels={"leruli.node": self.service.nodeid, "leruli.attempt": job.name},
            volumes=[f"{folder}/rundir:/rundir", f"{folder}/control:/leruli", *more_volumes],
            log_config=docker.types.LogConfig(type="none"),
        )
        if start:
            container.start()
        return container

    def run(self, job: Job) -> dict[str, Any]:
        """Stage in, run to the end, stage out; the receipt."""
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
        """Whether a container of the node runs."""
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
        # Nomad, run as root, leaves a small memory file system in each task of ended allocations.
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            point = line.split(" ")[1]
            if point.startswith(f"{self.node_dir}/"):
                subprocess.run(["umount", point], check=False)
