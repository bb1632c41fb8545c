"""A whole stack with this machine as its node, and jobs whose buckets are made beforehand.

What `leruli-queue up` starts, in one folder, with the tests' small image published.
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
from collections.abc import AsyncIterator, Iterator, Sequence
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
from leruli_queue.embedded.kept import Kept
from leruli_queue.embedded.programs import find_programs
from leruli_queue.embedded.progress import Progress
from leruli_queue.embedded.stack import Stack
from leruli_queue.errors import SetupError

IMAGE = "leruli-test:1"
MEMORY_MB = 100
_BULK = 100
_LOOK_EVERY_S = 0.5
_ENDED = """
SELECT count(*) FILTER (WHERE state = 'completed') AS completed,
       count(*) FILTER (WHERE state IN ('failed', 'cancelled')) AS otherwise,
       max(ended_at) AS last
FROM jobs WHERE id = ANY($1::uuid[])
"""
_NAMES = "{{.Repository}}:{{.Tag}}"


@dataclass(frozen=True)
class NodeStack:
    """A running stack whose node is this machine; as many jobs of one core run at once as slots."""

    folders: Folders
    kept: Kept
    slots: int

    def make_buckets(self, command: str, count: int) -> list[str]:
        """Make a bucket a job, each with a run.tgz that runs the command; return their names."""
        archive = _archive(command)
        store = Minio(
            f"{self.kept.address}:{self.kept.ports.object_store}",
            access_key=self.kept.object_store_access,
            secret_key=self.kept.object_store_secret,
            secure=False,
        )

        def make(bucket: str) -> str:
            store.make_bucket(bucket)
            store.put_object(bucket, "run.tgz", io.BytesIO(archive), len(archive))
            return bucket

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(make, [str(uuid4()) for _ in range(count)]))

    def submit(self, buckets: Sequence[str]) -> list[str]:
        """Submit a job of one core for each bucket and return their ids."""
        code, version = IMAGE.split(":")
        job = {
            "secret": self.kept.user_secret,
            "name": "default",
            "codeversion": f"{code}:{version}",
            "cores": 1,
            "memorymb": MEMORY_MB,
            "timelimit": 3600,
        }
        ids: list[str] = []
        with httpx.Client(base_url=service_url(self.kept), timeout=60, trust_env=False) as http:
            for first in range(0, len(buckets), _BULK):
                jobs = [job | {"bucketid": bucket} for bucket in buckets[first : first + _BULK]]
                answer = http.post("/v22_1/bulk/task-submit", json=jobs)
                if not answer.is_success or any(one["status"] != 200 for one in answer.json()):
                    raise UnexpectedAnswerError(f"{answer.status_code}: {answer.text[:300]}")
                ids += [one["data"] for one in answer.json()]
        return ids

    def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Look into the database: what is noted of each job is not all in the API."""

        async def fetch() -> list[Any]:
            async with self._connection() as connection:
                return list(await connection.fetch(sql, *arguments))

        return asyncio.run(fetch())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(postgres.database_url(self.folders, self.kept))
        try:
            yield connection
        finally:
            await connection.close()

    def wait_until_completed(self, ids: Sequence[str], limit_s: float) -> float:
        """Wait until all these jobs are completed; return when the last one was (since 1970).

        Raises
        ------
        TimeoutError
            When they are not in time.
        UnexpectedAnswerError
            When one ended otherwise.
        """

        async def wait() -> float:
            # On one connection: to make one costs PostgreSQL as much as a job does.
            async with asyncio.timeout(limit_s), self._connection() as connection:
                while True:
                    (row,) = await connection.fetch(_ENDED, ids)
                    if row["otherwise"]:
                        raise UnexpectedAnswerError(f"{row['otherwise']} jobs were not completed")
                    if row["completed"] == len(ids):
                        return float(row["last"].timestamp())
                    await asyncio.sleep(_LOOK_EVERY_S)

        return asyncio.run(wait())

    @property
    def process_ids(self) -> dict[str, int]:
        """Process ids of the parts, by name."""
        started = json.loads(self.folders.started.read_text(encoding="utf-8"))
        return {name: pid for name, (pid, *_) in started.items()}


@contextmanager
def running_node_stack(folder: Path, *, slots: int) -> Iterator[NodeStack]:
    """Run a stack that nobody used before; what it wrote, in Docker too, goes with it."""
    folders = Folders(folder)
    folders.make()
    stack = Stack(folders, find_programs(), Progress(quiet=True), address="127.0.0.1", node=True)
    try:
        with _environment("LERULI_NODE_CORES", str(slots)):
            stack.start()
        made = NodeStack(folders, stack.kept, slots)
        _publish(made)
        yield made
    finally:
        stack.stop()
        _forget_images(stack.kept)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Have a variable in the environment, which the parts of a stack are started with."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _publish(stack: NodeStack) -> None:
    kept = stack.kept
    environment = {
        "LERULI_BASEURL": service_url(kept),
        "LERULI_API_SECRET": kept.user_secret,
        "LERULI_S3_SERVER": f"http://{kept.address}:{kept.ports.object_store}",
        "LERULI_S3_ACCESS": kept.object_store_access,
        "LERULI_S3_SECRET": kept.object_store_secret,
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "leruli", "publish-code", *IMAGE.split(":")],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != 0:
        raise SetupError(
            f"the image {IMAGE} cannot be published; make it by images/build.sh leruli-test. "
            f"What was said: {done.stderr.strip()}"
        )


def _forget_images(kept: Kept) -> None:
    """Take the names off that the node gave to the image."""
    if not kept.group_token:
        return
    prefix = f"leruli.local/{kept.group_token.split('-')[1]}"
    listed = subprocess.run(
        ["docker", "images", "--format", _NAMES], capture_output=True, text=True, check=True
    )
    names = [name for name in listed.stdout.split() if name.startswith(prefix)]
    if names:
        subprocess.run(["docker", "rmi", *names], check=True, capture_output=True)


def _archive(command: str) -> bytes:
    """Return a run.tgz as the client makes it of an empty folder."""
    script = f"#!/bin/bash\n{command}\n".encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("run.sh")
        member.size, member.mode = len(script), 0o755
        archive.addfile(member, io.BytesIO(script))
    return packed.getvalue()
