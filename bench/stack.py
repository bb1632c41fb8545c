"""A stack for measuring: PostgreSQL with fsync on and `serve`, on loopback, in one folder.

Made of the pieces of `leruli-queue up`, so what is measured is what a person starts.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from leruli_queue.access.authenticate import User, authenticate_user
from leruli_queue.embedded import postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.kept import Kept, choose_ports
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs, find_programs
from leruli_queue.embedded.service import is_ready, serve_part
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group
from leruli_queue.groups.users import create_user
from leruli_queue.settings import PREFIX


@dataclass
class Stack:
    """A running service with one group, which can run jobs, and one user of it."""

    folders: Folders
    kept: Kept
    programs: Programs
    serve: Part
    user: User
    user_secret: str

    @property
    def port(self) -> int:
        """Where the service listens, on 127.0.0.1."""
        return self.kept.ports.service

    @property
    def database_url(self) -> str:
        """Address of its database."""
        return postgres.database_url(self.folders, self.kept)

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Look at or prepare the database, beside what is measured."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await connection.fetch(statement, *values)
            finally:
                await connection.close()

        return asyncio.run(run())


@contextmanager
def running_stack(folder: Path, *, workers: int) -> Iterator[Stack]:
    """Run a stack that nobody used before; what it wrote goes with it."""
    folders, kept, programs = Folders(folder), Kept(), find_programs(node=False)
    folders.make()
    choose_ports(kept, wanted_service_port=None)
    folders.tls.renew("global", (), days=1)
    postgres.make_cluster(folders, kept, programs)
    database = postgres.postgres_part(folders, programs)
    url = postgres.database_url(folders, kept)
    serve = serve_part(folders, kept)
    serve = replace(
        serve,
        environment={**serve.environment, f"{PREFIX}LISTEN_WORKERS": str(workers)},
    )
    try:
        database.start()
        database.wait_until(lambda: postgres.answers(url), seconds=60)
        serve.start()
        # It makes the tables too.
        serve.wait_until(lambda: is_ready(kept), seconds=60)
        user, secret = asyncio.run(_make_user(url))
        yield Stack(folders, kept, programs, serve, user, secret)
    finally:
        serve.stop()
        database.stop()
        folders.remove_sockets()
        shutil.rmtree(folder, ignore_errors=True)


async def _make_user(url: str) -> tuple[User, str]:
    connection = await asyncpg.connect(url)
    try:
        group = await create_group(connection, "bench")
        secret = await create_user(
            connection, group.id, group.group_token, name="ada", is_admin=False
        )
        await rotate_compute_secret(connection, group.id)
        return await authenticate_user(connection, secret), secret
    finally:
        await connection.close()
