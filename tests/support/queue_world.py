"""A real PostgreSQL and the real service as a process, for tests of its clients."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from service_world import GroupOfTest, PostgresOfTest, make_group

from leruli_queue.embedded import postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.plain_http import answers
from leruli_queue.embedded.ports import free_ports
from leruli_queue.embedded.programs import find_programs
from leruli_queue.embedded.state import StackState
from leruli_queue.settings import Settings
from leruli_queue.store.pool import open_pool


@dataclass
class QueueOfTest:
    """The service and its database. Without a dispatcher, jobs stay in the state set by tests."""

    url: str
    database_url: str
    environment: dict[str, str]
    log: Path
    postgres: PostgresOfTest
    # Python code that the process of the service runs first.
    preparation: str = ""
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        command = [str(Path(sys.executable).parent / "leruli-queue")]
        if self.preparation:
            serving = "from leruli_queue.commands import main; main()"
            command = [sys.executable, "-c", f"{self.preparation}; {serving}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "serve"],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 240
        while not answers(f"{self.url}/readyz"):
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, f"the service does not start: {self.log.read_text()[-2000:]}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End the service as a crash of its machine would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def restarted_with(self, *, preparation: str = "", **settings: object) -> Iterator[None]:
        """Run the service with other settings (without LERULI_QUEUE_) for a while."""
        before = self.environment
        self.kill()
        more = {f"LERULI_QUEUE_{name}": str(value) for name, value in settings.items()}
        self.environment, self.preparation = before | more, preparation
        self.start()
        try:
            yield
        finally:
            self.kill()
            self.environment, self.preparation = before, ""
            self.start()

    def make_group(self, name: str) -> GroupOfTest:
        """Make a group with an admin, a user called ada, and a compute secret."""

        async def make() -> GroupOfTest:
            async with open_pool(Settings(database_url=self.database_url)) as pool:
                return await make_group(pool, name)

        return asyncio.run(make())

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run a statement in the database; return its rows."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await connection.fetch(statement, *values)
            finally:
                await connection.close()

        return asyncio.run(run())


@contextmanager
def running_queue(folder: Path) -> Iterator[QueueOfTest]:
    """Run both, with all files in `folder`."""
    folders = Folders(folder)
    folders.make()
    state, programs = StackState(), find_programs()
    postgres.make_cluster(folders, state, programs)
    server = PostgresOfTest(
        postgres.postgres_part(folders, programs), postgres.database_url(folders, state)
    )
    server.start()
    [port] = free_ports(1)
    folders.tls.renew("global", (), days=1)
    environment = {
        "DATABASE_URL": server.url,
        "LISTEN_PORT": str(port),
        "NOMAD_ADDRESS": "https://127.0.0.1:1",  # nothing listens there, and nothing here needs it
        "NOMAD_CA_FILE": str(folders.tls.ca),
        "NOMAD_CA_KEY_FILE": str(folders.tls.ca_key),
        "NOMAD_CERT_FILE": str(folders.tls.broker),
        "NOMAD_KEY_FILE": str(folders.tls.broker_key),
    }
    queue = QueueOfTest(
        f"http://127.0.0.1:{port}",
        server.url,
        {f"LERULI_QUEUE_{name}": value for name, value in environment.items()},
        folder / "serve.log",
        server,
    )
    try:
        queue.start()
        queue.sql("INSERT INTO dispatchers VALUES ('default', '2999-01-01Z')")
        yield queue
    finally:
        queue.kill()
        server.part.stop()
