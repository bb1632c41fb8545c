"""The users of a group."""

from __future__ import annotations

import asyncpg

from leruli_queue.access import sealing
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.names import check_name
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def create_user(
    connection: Connection, group_id: int, group_token: str, *, name: str, is_admin: bool
) -> str:
    """Make a user and return the API secret, which exists in the clear nowhere else.

    Raises
    ------
    UserReportableError
        422 for a name that is not allowed, 409 for one that is in use.
    """
    check_name("user", name)
    secret = make(SecretType.API)
    try:
        await queries.insert_user(
            connection,
            group_id=group_id,
            name=name,
            role="admin" if is_admin else "user",
            key_id=secret.key_id,
            secret_hash=secret.hash,
            group_token_sealed=sealing.seal(group_token, secret),
        )
    except asyncpg.UniqueViolationError:
        raise UserReportableError(
            f"The group has a user named {name!r} already. Choose another name.", status=409
        ) from None
    return secret.text
