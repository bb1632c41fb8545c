"""A whole stack with this machine as its node, and jobs with prepared buckets.

It is the stack of `leruli-queue up`, in one folder. The small image of the tests is published.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
from minio import Minio

from bench.load import UnexpectedAnswerError
from leruli_queue.embedded import postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.identities import service_url
from leruli_queue.embedded.programs import find_programs
from leruli_queue.embedded.progress import Progress
from leruli_queue.embedded.stack import Stack
from leruli_queue.embedded.state import StackState
from leruli_queue.errors import SetupError

IMAGE = "leruli-test:1"
MEMORY_MB = 100
_BULK = 100
_POLL_S = 0.5
_ENDED = """
SELECT count(*) FILTER (WHERE state = 'completed') AS completed,
       count(*) FILTER (WHERE state IN ('failed', 'cancelled')) AS otherwise,
       max(ended_at) AS last
FROM jobs WHERE id = ANY($1::uuid[])
"""
_NAMES = "{{.Repository}}:{{.Tag}}"


@dataclass(frozen=True)
class NodeStack:
    """A running stack whose node is this machine, with ``slots`` slots of one core."""

    folders: Folders
    state: StackState
    slots: int

    def make_buckets(self, job: str | Callable[[str], Mapping[str, str]], count: int) -> list[str]:
        """Make a bucket per job, each with its run.tgz; return their names.

        Parameters
        ----------
        job
            The command of all jobs, or a function that returns the files of a job (name and text)
            from the name of its bucket.
        """
        store = self.store()

        def make(bucket: str) -> str:
            archive = _archive(_command(job) if isinstance(job, str) else job(bucket))
            store.make_bucket(bucket)
            store.put_object(bucket, "run.tgz", io.BytesIO(archive), len(archive))
            return bucket

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(make, [str(uuid4()) for _ in range(count)]))

    def store(self) -> Minio:
        """Return a client of the object store for several threads."""
        return Minio(
            f"{self.state.address}:{self.state.ports.object_store}",
            access_key=self.state.object_store_access,
            secret_key=self.state.object_store_secret,
            secure=False,
        )

    def submit(
        self,
        buckets: Sequence[str],
        *,
        image: str = IMAGE,
        memory_mb: int = MEMORY_MB,
        shares: bool = False,
    ) -> list[str]:
        """Submit a job of one core for each bucket; return their ids.

        With ``shares`` the jobs may run in shared containers.
        """
        code, version = image.split(":")
        job = {
            "secret": self.state.user_secret,
            "name": "default",
            "codeversion": f"{code}:{version}",
            "cores": 1,
            "memorymb": memory_mb,
            "timelimit": 3600,
            "sharecontainer": shares,
        }
        ids: list[str] = []
        with httpx.Client(base_url=service_url(self.state), timeout=60, trust_env=False) as http:
            for first in range(0, len(buckets), _BULK):
                jobs = [job | {"bucketid": bucket} for bucket in buckets[first : first + _BULK]]
                answer = http.post("/v22_1/bulk/task-submit", json=jobs)
                if not answer.is_success or any(one["status"] != 200 for one in answer.json()):
                    raise UnexpectedAnswerError(f"{answer.status_code}: {answer.text[:300]}")
                ids += [one["data"] for one in answer.json()]
        return ids

    def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Return rows of the database, which has more about a job than the API."""

        async def fetch() -> list[Any]:
            async with self._connection() as connection:
                return list(await connection.fetch(sql, *arguments))

        return asyncio.run(fetch())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(postgres.database_url(self.folders, self.state))
        try:
            yield connection
        finally:
            await connection.close()

    def wait_until_completed(self, ids: Sequence[str], limit_s: float) -> float:
        """Wait until all these jobs are completed; return the last end in s since 1970.

        Raises
        ------
        TimeoutError
            If this takes longer than ``limit_s``.
        UnexpectedAnswerError
            If a job failed or was cancelled.
        """

        async def wait() -> float:
            # Poll on one connection: opening one costs PostgreSQL as much as a job.
            async with asyncio.timeout(limit_s), self._connection() as connection:
                while True:
                    (row,) = await connection.fetch(_ENDED, ids)
                    if row["otherwise"]:
                        raise UnexpectedAnswerError(
                            f"{row['otherwise']} jobs failed or were cancelled."
                        )
                    if row["completed"] == len(ids):
                        return float(row["last"].timestamp())
                    await asyncio.sleep(_POLL_S)

        return asyncio.run(wait())

    def nomad_client_id(self) -> int:
        """Return the process id of the Nomad client, which is a child of the node agent."""
        agent = self.process_ids["node"]
        for child in Path(f"/proc/{agent}/task").glob("*/children"):
            for pid in child.read_text(encoding="ascii").split():
                if b"nomad.json" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
        raise SetupError("The node agent has no Nomad client.")

    @property
    def process_ids(self) -> dict[str, int]:
        """Process id of each part, by its name."""
        started = json.loads(self.folders.started.read_text(encoding="utf-8"))
        return {name: pid for name, (pid, *_) in started.items()}


@contextmanager
def running_node_stack(
    folder: Path,
    *,
    slots: int,
    settings: Mapping[str, str] | None = None,
    images: Sequence[str] = (IMAGE,),
) -> Iterator[NodeStack]:
    """Run a new stack; remove its folder and its image names in Docker at the end.

    Parameters
    ----------
    settings
        Further environment of its parts.
    images
        The images that are published.
    """
    folders = Folders(folder)
    folders.make()
    stack = Stack(folders, find_programs(), Progress(quiet=True), address="127.0.0.1", node=True)
    try:
        with _environment({"LERULI_NODE_CORES": str(slots), **(settings or {})}):
            stack.start()
        made = NodeStack(folders, stack.state, slots)
        for image in images:
            _publish(made, image)
        yield made
    finally:
        stack.stop()
        _forget_images(stack.state)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the parts of the stack that start inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _publish(stack: NodeStack, image: str) -> None:
    state = stack.state
    environment = {
        "LERULI_BASEURL": service_url(state),
        "LERULI_API_SECRET": state.user_secret,
        "LERULI_S3_SERVER": f"http://{state.address}:{state.ports.object_store}",
        "LERULI_S3_ACCESS": state.object_store_access,
        "LERULI_S3_SECRET": state.object_store_secret,
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "leruli", "publish-code", *image.split(":")],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        raise SetupError(
            f"The image {image} cannot be published. If it is missing, run `images/build.sh "
            f"{image.split(':')[0]}`. The client wrote: {done.stderr.strip()}"
        )


def _forget_images(state: StackState) -> None:
    """Remove the names that the node gave to the image."""
    if not state.group_token:
        return
    prefix = f"leruli.local/{state.group_token.split('-')[1]}"
    listed = subprocess.run(
        ["docker", "images", "--format", _NAMES], capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.split() if name.startswith(prefix)]
    if names:
        subprocess.run(["docker", "rmi", *names], check=True, capture_output=True)


def _command(command: str) -> dict[str, str]:
    """Return the files of a job that the client makes from an empty folder."""
    return {"run.sh": f"#!/bin/bash\n{command}\n"}


def _archive(files: Mapping[str, str]) -> bytes:
    """Return a run.tgz as the client makes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
