"""A stack for measurements, on loopback, in one folder.

It has PostgreSQL with fsync on, `serve`, and on demand a Nomad server, `dispatch` and S3. It is
made of the same pieces as `leruli-queue up`, so the measured stack is the one that people start.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from leruli_queue.access.authenticate import User, authenticate_user
from leruli_queue.embedded import nomad_server, object_store, postgres
from leruli_queue.embedded.folders import Folders, write_private
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs, find_programs
from leruli_queue.embedded.service import dispatch_part, is_ready, serve_part
from leruli_queue.embedded.state import StackState, choose_ports
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group
from leruli_queue.groups.users import create_user
from leruli_queue.settings import PREFIX


@dataclass
class Stack:
    """A running service with one group that can run jobs, and one user."""

    folders: Folders
    state: StackState
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
        """Port of the service on 127.0.0.1."""
        return self.state.ports.service

    @property
    def database_url(self) -> str:
        """URL of the database."""
        return postgres.database_url(self.folders, self.state)


@contextmanager
def running_stack(
    folder: Path,
    *,
    workers: int,
    nomad: bool = False,
    many_nodes: bool = False,
    dispatching: bool = True,
    s3: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Run a new stack; remove its folder at the end.

    Parameters
    ----------
    many_nodes
        Whether Nomad's server accepts more than 100 nodes from one address.
    dispatching
        Whether there is a dispatcher.
    settings
        Settings of `serve` and `dispatch`, by their names without the prefix.
    """
    ours = {f"{PREFIX}{name}": value for name, value in (settings or {}).items()}
    folders, state, programs = Folders(folder), StackState(), find_programs(node=False)
    folders.make()
    with ExitStack() as at_end:
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
        at_end.callback(folders.remove_sockets)
        choose_ports(state, wanted_service_port=None)
        # This also makes the certificates.
        nomad_server.write_configuration(folders, state)
        postgres.make_cluster(folders, state, programs)
        url = postgres.database_url(folders, state)
        database = _started(at_end, postgres.postgres_part(folders, programs))
        database.wait_until(lambda: postgres.answers(url), seconds=60)
        server = None
        if nomad:
            server = nomad_server.server_part(folders, programs)
            if many_nodes:
                server = _without_limits(server, folders)
            server = _started(at_end, server)
            server.wait_until(lambda: nomad_server.has_leader(folders, state), seconds=60)
            nomad_server.prepare_access(folders, state)
        serve = serve_part(folders, state)
        environment = {**serve.environment, **ours, f"{PREFIX}LISTEN_WORKERS": str(workers)}
        serve = _started(at_end, replace(serve, environment=environment))
        # `serve` also makes the tables.
        serve.wait_until(lambda: is_ready(state), seconds=60)
        dispatch = None
        if nomad and dispatching:
            dispatch = dispatch_part(folders, state)
            environment = {**dispatch.environment, **ours}
            dispatch = _started(at_end, replace(dispatch, environment=environment))
        user, secret = asyncio.run(_make_user(url, state))
        store = _started_object_store(at_end, folders, state, programs) if s3 else None
        yield Stack(
            folders, state, programs, serve, database, server, dispatch, user, secret, store
        )


def _started_object_store(
    at_end: ExitStack, folders: Folders, state: StackState, programs: Programs
) -> Part:
    store = _started(at_end, object_store.part(folders, state, programs))
    store.wait_until(lambda: object_store.answers(state), seconds=60)
    object_store.make_code_bucket(state)
    return store


def _without_limits(server: Part, folders: Folders) -> Part:
    path = folders.nomad_server / "limits.json"
    write_private(path, json.dumps({"limits": {"rpc_max_conns_per_client": 0}}))
    return replace(server, arguments=[*server.arguments, "-config", path])


def _started(at_end: ExitStack, part: Part) -> Part:
    part.start()
    at_end.callback(part.stop)
    return part


async def _make_user(url: str, state: StackState) -> tuple[User, str]:
    connection = await asyncpg.connect(url)
    try:
        group = await create_group(connection, "bench")
        state.group_token = group.group_token
        secret = await create_user(
            connection, group.id, group.group_token, name="ada", is_admin=False
        )
        await rotate_compute_secret(connection, group.id)
        return await authenticate_user(connection, secret), secret
    finally:
        await connection.close()
