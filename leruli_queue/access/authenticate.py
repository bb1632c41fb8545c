"""Find out who a secret belongs to.

Every refusal is a :class:`UserReportableError` with status 403 and a sentence that holds neither
the secret nor a hint whether a similar one exists.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from leruli_queue.access import sealing
from leruli_queue.access.secrets import MalformedSecretError, Secret, SecretType, parse
from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


@dataclass(frozen=True)
class User:
    """A user of a group, authenticated by an API secret."""

    id: int
    name: str
    is_admin: bool
    group_id: int
    group_key_id: str
    group_has_compute_secret: bool
    _secret: Secret = field(repr=False)
    _group_token_sealed: bytes = field(repr=False)

    def group_token(self) -> str:
        """Return the group token, which only this user's secret can unseal."""
        return sealing.unseal(self._group_token_sealed, self._secret)


@dataclass(frozen=True)
class Group:
    """A group that a machine proved it may compute for."""

    id: int
    key_id: str
    epoch: int


@dataclass(frozen=True)
class Node:
    """A node of a group, authenticated by its node token."""

    id: UUID
    group_id: int


async def authenticate_user(connection: Connection | Pool, text: str) -> User:
    """Return the user of an API secret.

    Raises
    ------
    UserReportableError
        403 when the secret is malformed, unknown or revoked.
    """
    secret = _parse(text, SecretType.API, name="API secret")
    row = await queries.user_by_key_id(connection, key_id=secret.key_id)
    # The comparison also runs for an unknown key id, so that timing does not tell them apart.
    if not secret.matches(row and row["secret_hash"]):
        raise _refused("This API secret is not known, or it was revoked. Ask an admin of the group")
    return User(
        id=row["id"],
        name=row["name"],
        is_admin=row["role"] == "admin",
        group_id=row["group_id"],
        group_key_id=row["token_key_id"],
        group_has_compute_secret=row["compute_epoch"] > 0,
        _secret=secret,
        _group_token_sealed=row["group_token_sealed"],
    )


async def authenticate_admin(connection: Connection | Pool, text: str) -> User:
    """Return the user of an API secret who must be an admin.

    Raises
    ------
    UserReportableError
        403 when :func:`authenticate_user` refuses, or the user is not an admin.
    """
    user = await authenticate_user(connection, text)
    if not user.is_admin:
        raise _refused("This needs the API secret of an admin; ask an admin of the group")
    return user


async def authenticate_machine(
    connection: Connection | Pool, *, group_token: str, compute_secret: str
) -> Group:
    """Return the group that a machine may join: it must hold both of the group's secrets.

    Raises
    ------
    UserReportableError
        403 when either is malformed or unknown, or they belong to different groups.
    """
    token = _parse(group_token, SecretType.GROUP, name="group token")
    compute = _parse(compute_secret, SecretType.COMPUTE, name="compute secret")
    row = await queries.group_by_token_key_id(connection, key_id=token.key_id)
    token_ok = token.matches(row and row["token_hash"])
    compute_ok = compute.matches(row and row["compute_hash"])
    if not token_ok:
        raise _refused("This group token is not known. Check it in node.env")
    if not compute_ok:
        raise _refused(
            "This compute secret is not the group's current one; it may have been rotated. "
            "Ask an admin of the group for the new one and put it into node.env"
        )
    return Group(id=row["id"], key_id=row["token_key_id"], epoch=row["compute_epoch"])


async def authenticate_node(connection: Connection | Pool, text: str) -> Node:
    """Return the node of a node token.

    Raises
    ------
    UserReportableError
        403 when the token is malformed or unknown, or ended by a later join.
    """
    secret = _parse(text, SecretType.NODE, name="node token")
    row = await queries.node_by_key_id(connection, key_id=secret.key_id)
    if not secret.matches(row and row["token_hash"]):
        raise _refused("This node token is not valid any more. The node has to join again")
    if row["seen_long_ago"]:
        await queries.touch_node(connection, node_id=row["id"])
    return Node(id=row["id"], group_id=row["group_id"])


def _parse(text: str, kind: SecretType, *, name: str) -> Secret:
    try:
        return parse(text, kind)
    except MalformedSecretError as error:
        raise _refused(f"This {name} cannot be right: {error}") from None


def _refused(sentence: str) -> UserReportableError:
    return UserReportableError(f"{sentence}.", status=403)
