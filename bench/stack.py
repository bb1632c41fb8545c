"""A stack for measuring, on loopback, in one folder.

PostgreSQL with fsync on, `serve`, and where asked for a Nomad server and `dispatch`, or S3.

Made of the pieces of `leruli-queue up`, so what is measured is what a person starts.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from leruli_queue.access.authenticate import User, authenticate_user
from leruli_queue.embedded import nomad_server, object_store, postgres
from leruli_queue.embedded.folders import Folders, write_private
from leruli_queue.embedded.kept import Kept, choose_ports
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs, find_programs
from leruli_queue.embedded.service import dispatch_part, is_ready, serve_part
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
    database: Part
    # None without a Nomad.
    nomad: Part | None
    dispatch: Part | None
    user: User
    user_secret: str
    # None without S3.
    object_store: Part | None = None

    @property
    def port(self) -> int:
        """Where the service listens, on 127.0.0.1."""
        return self.kept.ports.service

    @property
    def database_url(self) -> str:
        """Address of its database."""
        return postgres.database_url(self.folders, self.kept)


@contextmanager
def running_stack(
    folder: Path,
    *,
    workers: int,
    nomad: bool = False,
    many_nodes: bool = False,
    dispatching: bool = True,
    s3: bool = False,
) -> Iterator[Stack]:
    """Run a stack that nobody used before; what it wrote goes with it.

    With ``many_nodes`` Nomad's server takes more than 100 nodes from one address; without
    ``dispatching`` nobody moves jobs to it.
    """
    folders, kept, programs = Folders(folder), Kept(), find_programs(node=False)
    folders.make()
    with ExitStack() as at_end:
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
        at_end.callback(folders.remove_sockets)
        choose_ports(kept, wanted_service_port=None)
        # Makes the certificates as well.
        nomad_server.write_configuration(folders, kept)
        postgres.make_cluster(folders, kept, programs)
        url = postgres.database_url(folders, kept)
        database = _started(at_end, postgres.postgres_part(folders, programs))
        database.wait_until(lambda: postgres.answers(url), seconds=60)
        server = None
        if nomad:
            server = nomad_server.server_part(folders, programs)
            if many_nodes:
                server = _without_limits(server, folders)
            server = _started(at_end, server)
            server.wait_until(lambda: nomad_server.has_leader(folders, kept), seconds=60)
            nomad_server.prepare_access(folders, kept)
        serve = serve_part(folders, kept)
        environment = {**serve.environment, f"{PREFIX}LISTEN_WORKERS": str(workers)}
        serve = _started(at_end, replace(serve, environment=environment))
        # It makes the tables too.
        serve.wait_until(lambda: is_ready(kept), seconds=60)
        dispatch = None
        if nomad and dispatching:
            dispatch = _started(at_end, dispatch_part(folders, kept))
        user, secret = asyncio.run(_make_user(url, kept))
        store = _started_object_store(at_end, folders, kept, programs) if s3 else None
        yield Stack(folders, kept, programs, serve, database, server, dispatch, user, secret, store)


def _started_object_store(
    at_end: ExitStack, folders: Folders, kept: Kept, programs: Programs
) -> Part:
    store = _started(at_end, object_store.part(folders, kept, programs))
    store.wait_until(lambda: object_store.answers(kept), seconds=60)
    object_store.make_code_bucket(kept)
    return store


def _without_limits(server: Part, folders: Folders) -> Part:
    path = folders.nomad_server / "limits.json"
    write_private(path, json.dumps({"limits": {"rpc_max_conns_per_client": 0}}))
    return replace(server, arguments=[*server.arguments, "-config", path])


def _started(at_end: ExitStack, part: Part) -> Part:
    part.start()
    at_end.callback(part.stop)
    return part


async def _make_user(url: str, kept: Kept) -> tuple[User, str]:
    connection = await asyncpg.connect(url)
    try:
        group = await create_group(connection, "bench")
        kept.group_token = group.group_token
        secret = await create_user(
            connection, group.id, group.group_token, name="ada", is_admin=False
        )
        await rotate_compute_secret(connection, group.id)
        return await authenticate_user(connection, secret), secret
    finally:
        await connection.close()
