"""The stack under test: `leruli-queue up --detach` in its own folder, and its users.

Its command line starts it, as a person would. The soak reads database, Nomad, Docker and the node's
folder directly only for facts that no command shows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from leruli_queue.embedded import nomad_server, object_store, plain_http, postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.identities import service_url
from leruli_queue.embedded.state import StackState, load_state
from leruli_queue.errors import SetupError
from soak.plan import IMAGE

# Errors of a call to an object store that is killed now and then.
STORE_ERRORS = (MinioException, HTTPError, OSError, ValueError)
_BIN = Path(sys.executable).parent
# With the intervals of production a soak would wait most of the time.
SETTINGS = {
    "LERULI_QUEUE_RETRY_DELAY_S": "1",
    "LERULI_QUEUE_RECONCILE_INTERVAL_S": "15",
    "LERULI_QUEUE_RECEIPT_GRACE_S": "60",
    "LERULI_NODE_GRACE_SECONDS": "2",
    "LERULI_NODE_CORES": "4",
}
# Of a run with short jobs: slots end now and then, so that all of their ends are met.
SLOTS = {"LERULI_QUEUE_SLOT_MAX_S": "30"}


@dataclass(frozen=True)
class User:
    """A user of the group."""

    name: str
    secret: str


class SoakStack:
    """A running stack."""

    def __init__(self, data: Path) -> None:
        self.folders = Folders(data)
        self.state: StackState = load_state(self.folders.secrets)

    @property
    def url(self) -> str:
        """URL of the service."""
        return service_url(self.state)

    @property
    def node_id(self) -> str:
        """Id of this machine's node, as in the label of its containers."""
        return str(json.loads((self.folders.node / "node.json").read_text())["nodeid"])

    @property
    def database_url(self) -> str:
        """URL of the database."""
        return postgres.database_url(self.folders, self.state)

    def store(self) -> Minio:
        """Return a client of the object store for several threads, with the key of the users."""
        return Minio(
            f"{self.state.address}:{self.state.ports.object_store}",
            access_key=self.state.object_store_access,
            secret_key=self.state.object_store_secret,
            secure=False,
        )

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Return rows of the database."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    def nomad(self, path: str) -> Any:
        """Return an answer of Nomad's API."""
        with nomad_server.client(self.folders, self.state, timeout=30) as http:
            return http.get(path).raise_for_status().json()

    def pid_of(self, part: str) -> int | None:
        """Return the process id of a part of the stack; None while it does not run."""
        with suppress(FileNotFoundError, ValueError, KeyError):
            return int(json.loads(self.folders.started.read_text())[part][0])
        return None

    def nomad_client_pid(self) -> int | None:
        """Return the process id of the Nomad client, which is a child of the node agent."""
        agent = self.pid_of("node")
        configuration = str(self.folders.node / "nomad.json")
        for pid, parent, words in processes():
            if parent == agent and f"-config={configuration}" in words:
                return pid
        return None

    def answers(self) -> bool:
        """Return whether the service answers, even without its database."""
        return plain_http.answers(f"{self.url}/livez")


@contextmanager
def running_stack(data: Path, settings: Mapping[str, str]) -> Iterator[SoakStack]:
    """Run a stack with the image published. The caller must remove its folder.

    Parameters
    ----------
    settings
        Environment of the stack besides SETTINGS.

    Raises
    ------
    SetupError
        If it does not start or stop.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("LERULI_")
    }
    environment |= {**SETTINGS, **settings}
    try:
        _run("leruli-queue", "up", "--detach", "--quiet", "--data", str(data), env=environment)
        stack = SoakStack(data)
        client = {
            "LERULI_BASEURL": stack.url,
            "LERULI_API_SECRET": stack.state.user_secret,
            "LERULI_S3_SERVER": object_store.url(stack.state),
            "LERULI_S3_ACCESS": stack.state.object_store_access,
            "LERULI_S3_SECRET": stack.state.object_store_secret,
        }
        _run("leruli", "publish-code", *IMAGE.split(":"), env=environment | client)
        try:
            yield stack
        finally:
            _forget_images(stack)
    finally:
        _run("leruli-queue", "down", "--data", str(data), env=environment)


def processes() -> Iterator[tuple[int, int, list[str]]]:
    """Yield id, parent's id and command line of every process."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError, IndexError, ValueError):
            words = (folder / "cmdline").read_text("utf-8", "replace").split("\0")
            stat = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            yield int(folder.name), int(stat[1]), words


def processes_of(data: Path) -> list[str]:
    """Return the processes of a stack in this folder that still run."""
    return [
        f"{pid} ({' '.join(words)[:80].strip()})"
        for pid, _, words in processes()
        if pid != os.getpid() and any(f"{data}/" in word for word in words)
    ]


def remove(data: Path) -> None:
    """Remove the folder of a stopped stack.

    Raises
    ------
    OSError
        If something is still mounted there.
    """
    shutil.rmtree(data)


def _run(program: str, *arguments: str, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        [_BIN / program, *arguments],
        env={**env, "PATH": f"{_BIN}:{env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f"`{program} {arguments[0]}` failed:\n{done.stderr.strip()}")


def _forget_images(stack: SoakStack) -> None:
    """Remove the images that the node loaded into Docker."""
    prefix = f"leruli.local/{stack.state.group_token.split('-')[1]}"
    command = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]

    def remaining() -> list[str]:
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        return [name for name in listed.stdout.split() if name.startswith(prefix)]

    # The node still runs and removes images too, so a missing image is no failure.
    if ours := remaining():
        removed = subprocess.run(
            ["docker", "rmi", "--force", *ours], capture_output=True, text=True, check=False
        )
        if left := remaining():
            raise SetupError(f"Docker did not remove {', '.join(left)}: {removed.stderr.strip()}")
