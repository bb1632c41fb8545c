"""The users of a group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from leruli_queue.access import sealing
from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.roles import Role
from leruli_queue.access.secrets import SecretType, make, parse
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.names import check_name
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


@dataclass(frozen=True)
class Member:
    """A user of the group, as its admins see it."""

    name: str
    role: Role
    key_id: str
    created_at: datetime
    # To the minute; None if the secret was never used.
    last_used_at: datetime | None
    revoked_at: datetime | None


async def create_user(
    connection: Connection,
    group_id: int,
    group_token: str,
    *,
    name: str,
    is_admin: bool,
    by: int | None = None,
) -> str:
    """Make a user and return the API secret. It exists in clear text nowhere else.

    Parameters
    ----------
    by
        Id of the admin who does it; None for the operator of the service.

    Raises
    ------
    UserReportableError
        422 for a name that is not allowed, 409 for one that is in use.
    """
    check_name("user", name)
    role = Role.ADMIN if is_admin else Role.USER
    secret = make(SecretType.API)
    public_key = sealing.public_key(secret)
    async with connection.transaction():
        try:
            await queries.insert_user(
                connection,
                group_id=group_id,
                name=name,
                role=role,
                key_id=secret.key_id,
                secret_hash=secret.hash,
                public_key=public_key,
                group_token_sealed=sealing.seal_to(public_key, group_token),
                token_key_id=parse(group_token, SecretType.GROUP).key_id,
            )
        except asyncpg.UniqueViolationError:
            raise UserReportableError(
                f"The group has a user named {name!r} already. Choose another name.", status=409
            ) from None
        await note_action(
            connection,
            group_id,
            Action.USER_CREATED,
            actor_id=by,
            subject=name,
            detail=f"as {'an admin' if is_admin else 'a user'}",
        )
    return secret.text


@dataclass(frozen=True)
class Revoked:
    """The user whose secret was revoked, and the time."""

    name: str
    at: datetime


async def revoke_user(
    connection: Connection,
    group_id: int,
    name: str | None = None,
    *,
    key_id: str | None = None,
    by: int,
) -> Revoked:
    """Revoke a user's secret. The user's jobs continue, and admins can see them.

    Pass the user's name, or the key id of a secret that was found somewhere.

    Once the transaction is committed, every call that began with the secret has ended, in all
    copies of the service. The caller holds the administration lock of the group. If the user is an
    admin, a prepared group token is forgotten, because the admin may know it.

    Raises
    ------
    UserReportableError
        404 when no user has the name or key id, 409 when it is the last admin.
    """
    called = "name" if key_id is None else "key id"
    row = await queries.user_by_name(connection, group_id=group_id, name=name, key_id=key_id)
    if row is None:
        raise UserReportableError(
            f"The group has no user of this {called}; group-list-users has the names and key ids.",
            status=404,
        )
    if row["revoked_at"] is not None:
        raise UserReportableError(
            f"The user of this {called} was revoked at {row['revoked_at'].isoformat()} already.",
            status=404,
        )
    is_last = await queries.count_admins(connection, group_id=group_id) == 1
    if row["role"] == Role.ADMIN and is_last:
        raise UserReportableError(
            "This is the last admin of the group, which needs one. Make another admin first.",
            status=409,
        )
    await queries.seize_secret(connection, lock=SECRET_LOCKS, key_id=row["key_id"])
    revoked_at: datetime = await queries.revoke_user(connection, user_id=row["id"])
    if row["role"] == Role.ADMIN:
        await queries.delete_prepared_token(connection, group_id=group_id)
    await note_action(connection, group_id, Action.USER_REVOKED, actor_id=by, subject=row["name"])
    return Revoked(row["name"], revoked_at)


async def list_users(
    connection: Connection | Pool, group_id: int, *, with_revoked: bool
) -> list[Member]:
    """Return the users of a group by name; revoked users come last."""
    found = await rows(
        queries.users_of_group(connection, group_id=group_id, with_revoked=with_revoked)
    )
    return [Member(**(dict(row) | {"role": Role(row["role"])})) for row in found]
