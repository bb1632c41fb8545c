"""The group of a stack, made at its first start with an admin, a user and a compute secret."""

from __future__ import annotations

import asyncio
from shlex import quote

from leruli_queue.access.authenticate import authenticate_machine, authenticate_user
from leruli_queue.embedded import nomad_server, object_store
from leruli_queue.embedded.folders import Folders, write_private
from leruli_queue.embedded.state import StackState
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group
from leruli_queue.groups.group_token import group_token
from leruli_queue.groups.users import create_user
from leruli_queue.settings import Settings
from leruli_queue.store.migrate import migrate
from leruli_queue.store.pool import Connection, connect
from leruli_queue.store.queries import queries, rows

_GROUP = "local"
LOOPBACK = "127.0.0.1"


def service_url(state: StackState) -> str:
    """Return the address of the service."""
    return f"http://{state.address}:{state.ports.service}"


def prepare_database(folders: Folders, state: StackState, settings: Settings) -> list[str]:
    """Migrate the database and make the group, unless an earlier start did.

    Returns
    -------
    Sentences for the person who started the stack.
    """
    return asyncio.run(_prepare(folders, state, settings))


async def _prepare(folders: Folders, state: StackState, settings: Settings) -> list[str]:
    notes = []
    connection = await connect(settings)
    try:
        await migrate(connection)
        # The secrets are saved before the commit. After a crash in between the next start finds
        # secrets that the database does not know, and makes the group again. The other order would
        # lose the group.
        async with connection.transaction():
            group_id = await _group_of(connection, state)
            if group_id is None:
                group = await create_group(connection, await _free_name(connection))
                group_id = group.id
                state.admin_secret, state.group_token = group.admin_secret, group.group_token
                state.user_secret = await create_user(
                    connection, group.id, group.group_token, name="user", is_admin=False
                )
            state.group_token = await _group_token(connection, state)
            if not await _compute_secret_is_current(connection, state):
                if state.compute_secret:
                    notes.append(
                        "the compute secret was rotated, and a new one was made for this machine; "
                        f"other machines need it too: {folders.admin_sh}"
                    )
                state.compute_secret = await rotate_compute_secret(connection, group_id)
            state.save(folders.secrets)
    finally:
        await connection.close()
    return notes


async def _group_of(connection: Connection, state: StackState) -> int | None:
    try:
        return (await authenticate_user(connection, state.user_secret)).group_id
    except UserReportableError:
        return None


async def _group_token(connection: Connection, state: StackState) -> str:
    """Return the group's token, which an admin may have rotated since the last start."""
    return await group_token(connection, await authenticate_user(connection, state.user_secret))


async def _compute_secret_is_current(connection: Connection, state: StackState) -> bool:
    try:
        await authenticate_machine(
            connection, group_token=state.group_token, compute_secret=state.compute_secret
        )
    except UserReportableError:
        return False
    return True


async def _free_name(connection: Connection) -> str:
    taken = {row["name"] for row in await rows(queries.group_names(connection))}
    candidates = (_GROUP if n == 1 else f"{_GROUP}-{n}" for n in range(1, len(taken) + 2))
    return next(name for name in candidates if name not in taken)


def write_shell_files(folders: Folders, state: StackState) -> None:
    """Write env.sh for users and admin.sh for the admin."""
    user = {
        "LERULI_BASEURL": service_url(state),
        "LERULI_API_SECRET": state.user_secret,
        "LERULI_S3_SERVER": object_store.url(state),
        "LERULI_S3_ACCESS": state.object_store_access,
        "LERULI_S3_SECRET": state.object_store_secret,
    }
    admin = {
        "LERULI_BASEURL": service_url(state),
        "LERULI_ADMIN_SECRET": state.admin_secret,
        "LERULI_GROUP_TOKEN": state.group_token,
        "LERULI_COMPUTE_SECRET": state.compute_secret,
        "NOMAD_ADDR": nomad_server.address(state),
        "NOMAD_TOKEN": state.nomad_management_token,
        "NOMAD_CACERT": str(folders.tls.ca),
        "NOMAD_CLIENT_CERT": str(folders.tls.broker),
        "NOMAD_CLIENT_KEY": str(folders.tls.broker_key),
    }
    if state.address != LOOPBACK:
        # Who gives another address (`up --address`) trusts that network.
        user["LERULI_ALLOW_PLAIN_HTTP"] = admin["LERULI_ALLOW_PLAIN_HTTP"] = "1"
    for path, variables in ((folders.env_sh, user), (folders.admin_sh, admin)):
        lines = [f"export {name}={quote(value)}\n" for name, value in variables.items()]
        write_private(path, "".join(lines))
