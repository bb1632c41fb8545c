"""Authorise: may the owner of a secret make a call? The table :data:`~.roles.RULES` decides."""

from __future__ import annotations

from dataclasses import replace

from leruli_queue.access.authenticate import (
    Group,
    Node,
    User,
    authenticate_machine,
    authenticate_node,
    authenticate_reader,
    authenticate_user,
)
from leruli_queue.access.roles import RULES, Call, Effect, Role, Rule
from leruli_queue.access.secrets import SecretType, is_kind
from leruli_queue.errors import UserReportableError
from leruli_queue.store.locks import ADMINISTRATION_LOCKS
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


async def authorise_user(connection: Connection | Pool, call: Call, secret: str) -> User:
    """Return the user of an API secret, if users of this role may make the call.

    The user's ``owner_id`` says whose jobs the call may touch.

    For a call that writes, pass the connection in the transaction of the write: a revocation of the
    secret waits until that transaction ends (docs/developers/locks.md). A call that submits jobs
    needs no transaction: :func:`leruli_queue.jobs.intake.submit_jobs` locks the secret itself.

    Raises
    ------
    SecretRefusedError
        When the secret is malformed, unknown or revoked.
    UserReportableError
        403 when the user's role is not enough, or the group is disabled.
    """
    rule = RULES[call]
    if rule.effect is Effect.ADMINISTERS:
        # Authorise before the lock: only an admin of the group may make its other admins wait.
        admin = _allowed(await authenticate_user(connection, secret), rule)
        await queries.hold_administration(
            connection, lock=ADMINISTRATION_LOCKS, group_id=admin.group_id
        )
    hold = rule.effect in (Effect.WRITES, Effect.ADMINISTERS)
    user = _allowed(await authenticate_user(connection, secret, hold=hold), rule)
    if user.is_use_stale:
        await queries.touch_user(connection, user_id=user.id, public_key=user.public_key)
    return user


async def authorise_reader(connection: Connection | Pool, call: Call, token: str) -> Group:
    """Return the group of a group token, for a call that readers may make.

    Raises
    ------
    SecretRefusedError
        When the token is malformed or unknown.
    UserReportableError
        403 when the group is disabled.
    """
    _open_to(Role.READER, call)
    return await authenticate_reader(connection, token)


async def authorise_reader_or_admin(
    connection: Connection | Pool, call: Call, *, group_token: str | None, admin_secret: str | None
) -> int:
    """Return the id of the group of either secret, for a call that readers and admins may make.

    Raises
    ------
    SecretRefusedError
        When the secret is malformed, unknown or revoked.
    UserReportableError
        403 when the secret is of a user who is not an admin, or the group is disabled.
    """
    if admin_secret is not None and (group_token is None or is_kind(admin_secret, SecretType.API)):
        return (await authorise_user(connection, call, admin_secret)).group_id
    return (await authorise_reader(connection, call, group_token or "")).id


async def authorise_machine(
    connection: Connection | Pool, call: Call, *, group_token: str, compute_secret: str
) -> Group:
    """Return the group whose two secrets a machine has, for a call that machines may make.

    Raises
    ------
    SecretRefusedError
        When either secret is malformed or unknown, or they belong to different groups.
    """
    _open_to(Role.MACHINE, call)
    return await authenticate_machine(
        connection, group_token=group_token, compute_secret=compute_secret
    )


async def authorise_node(connection: Connection | Pool, call: Call, token: str) -> Node:
    """Return the node of a node token, for a call that nodes may make.

    Raises
    ------
    SecretRefusedError
        When the token is malformed or unknown, or ended by a later join.
    """
    _open_to(Role.NODE, call)
    return await authenticate_node(connection, token)


def _allowed(user: User, rule: Rule) -> User:
    whose = rule.may.get(user.role)
    if whose is None:
        raise UserReportableError(
            "This needs the API secret of an admin; ask an admin of the group.", status=403
        )
    return replace(user, whose=whose)


def _open_to(role: Role, call: Call) -> None:
    if role not in RULES[call].may:  # a defect of the route
        raise PermissionError(f"{call} is not open to {role}")
