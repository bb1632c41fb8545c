"""Make a group with its first admin."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.secrets import SecretType, make
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.names import check_name
from leruli_queue.groups.users import create_user
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class NewGroup:
    """A new group with its secrets. They exist in clear text only here."""

    id: int
    name: str
    admin_name: str
    admin_secret: str
    group_token: str


async def create_group(connection: Connection, name: str, admin_name: str = "admin") -> NewGroup:
    """Make a group and its first admin, in one transaction.

    Raises
    ------
    UserReportableError
        422 for a name that is not allowed, 409 for one that is taken.
    """
    check_name("group", name)
    token = make(SecretType.GROUP)
    async with connection.transaction():
        try:
            group_id = await queries.insert_group(
                connection, name=name, token_key_id=token.key_id, token_hash=token.hash
            )
        except asyncpg.UniqueViolationError:
            raise UserReportableError(
                f"A group named {name!r} exists already. Choose another name.", status=409
            ) from None
        await note_action(connection, group_id, Action.GROUP_CREATED, actor_id=None)
        admin_secret = await create_user(
            connection, group_id, token.text, name=admin_name, is_admin=True
        )
    return NewGroup(group_id, name, admin_name, admin_secret, token.text)
