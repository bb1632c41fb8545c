"""Authenticate: find the owner of a secret.

A wrong secret raises :class:`SecretRefusedError` (403). Its sentence holds neither the secret nor a
hint whether a similar one exists. :mod:`leruli_queue.access.authorise` decides what the owner may
do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cryptography.fernet import InvalidToken

from leruli_queue.access import sealing
from leruli_queue.access.roles import Role, Whose
from leruli_queue.access.secrets import MalformedSecretError, Secret, SecretType, parse
from leruli_queue.errors import UserReportableError
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries


class SecretRefusedError(UserReportableError):
    """The secret is malformed, unknown or revoked. The throttle delays repeated ones."""

    def __init__(self, sentence: str, key_id: str | None = None) -> None:
        super().__init__(sentence, status=403)
        # None if the text does not have the form of a secret.
        self.key_id = key_id


@dataclass(frozen=True)
class User:
    """A user of a group, authenticated by an API secret."""

    id: int
    name: str
    role: Role
    group_id: int
    group_has_compute_secret: bool
    # Which jobs the user's call may touch.
    whose: Whose
    # Whether to store the time of this use, or the user's public key.
    is_use_stale: bool
    _secret: Secret = field(repr=False)
    _group_token_sealed: bytes = field(repr=False)

    @property
    def owner_id(self) -> int | None:
        """The id of the user whose jobs the call may touch; None: jobs of the whole group."""
        return None if self.whose is Whose.GROUP else self.id

    @property
    def key_id(self) -> str:
        """The key id of the user's secret, by which it is found and locked. Not secret."""
        return self._secret.key_id

    @property
    def public_key(self) -> bytes:
        """The key with which secrets of the group are sealed for this user."""
        return sealing.public_key(self._secret)

    @property
    def group_token_sealed(self) -> bytes:
        """A group token, sealed for this user. A later token may be the valid one."""
        return self._group_token_sealed

    def unseal_group_token(self) -> str:
        """Return the group token of this user's row. Only the user's secret can unseal it.

        ``leruli_queue.groups.group_token`` returns the valid token.
        """
        return sealing.unseal(self._group_token_sealed, self._secret)


@dataclass(frozen=True)
class Group:
    """A group, authenticated by its token, or by its token and compute secret."""

    id: int
    # The key id of the group's first token. It names the group's node pool in Nomad.
    key_id: str
    epoch: int
    # The key id of the token that was sent.
    token_key_id: str


@dataclass(frozen=True)
class Node:
    """A node of a group, authenticated by its node token."""

    id: UUID
    group_id: int
    # Key id of the group token by which the node finds images, if it has reported one.
    images_key_id: str | None = None
    _secret: Secret | None = field(default=None, repr=False)
    _group_token_sealed: bytes | None = field(default=None, repr=False)

    def unseal_group_token(self) -> str | None:
        """Return the group token that was sealed for this node after it joined, if any."""
        if self._secret is None or self._group_token_sealed is None:
            return None
        try:
            return sealing.unseal(self._group_token_sealed, self._secret)
        except InvalidToken:
            # Sealed to an earlier token of this node: a copy of the service that does not know
            # rotations let the node join again. The next join corrects it.
            return None


async def authenticate_user(
    connection: Connection | Pool, text: str, *, hold: bool = False
) -> User:
    """Return the user of an API secret, who may touch own jobs.

    Parameters
    ----------
    hold
        Lock the secret until the connection's transaction ends. A revocation waits until then.

    Raises
    ------
    SecretRefusedError
        When the secret is malformed, unknown or revoked.
    UserReportableError
        403 when the group is disabled.
    """
    secret = parse_secret(text, SecretType.API, name="API secret")
    if hold:
        # A separate statement: the next one then sees what was committed during the wait.
        await queries.hold_secret(connection, lock=SECRET_LOCKS, key_id=secret.key_id)
    row = await queries.user_by_key_id(connection, key_id=secret.key_id)
    # Compare also for an unknown key id, so that the time of the answer does not reveal it.
    if not secret.matches(row and row["secret_hash"]):
        raise SecretRefusedError(
            "This API secret is not known, or it was revoked. Ask an admin of the group.",
            secret.key_id,
        )
    _refuse_if_disabled(row)
    return User(
        id=row["id"],
        name=row["name"],
        role=Role(row["role"]),
        group_id=row["group_id"],
        group_has_compute_secret=row["compute_epoch"] > 0,
        whose=Whose.OWN,
        is_use_stale=row["used_long_ago"] or row["keyless"],
        _secret=secret,
        _group_token_sealed=row["group_token_sealed"],
    )


async def authenticate_reader(connection: Connection | Pool, text: str) -> Group:
    """Return the group of a group token.

    Raises
    ------
    SecretRefusedError
        When the token is malformed or unknown.
    UserReportableError
        403 when the group is disabled.
    """
    token = parse_secret(text, SecretType.GROUP, name="group token")
    row = await queries.group_by_token_key_id(connection, key_id=token.key_id)
    if not token.matches(row and row["token_hash"]):
        raise SecretRefusedError(
            "This group token is not known. A user of the group gets it by group-token.",
            token.key_id,
        )
    if row["ended_at"] is not None:
        raise SecretRefusedError(
            f"This group token was rotated at {_minute(row)}. A user of the group gets the new one "
            "by group-token (`leruli group token`).",
            token.key_id,
        )
    _refuse_if_disabled(row)
    return _group(row)


async def authenticate_machine(
    connection: Connection | Pool, *, group_token: str, compute_secret: str
) -> Group:
    """Return the group that a machine may join. The machine needs both of the group's secrets.

    Raises
    ------
    SecretRefusedError
        When either is malformed or unknown, or they belong to different groups.
    UserReportableError
        403 when the group is disabled.
    """
    token = parse_secret(group_token, SecretType.GROUP, name="group token")
    compute = parse_secret(compute_secret, SecretType.COMPUTE, name="compute secret")
    row = await queries.group_by_token_key_id(connection, key_id=token.key_id)
    token_ok = token.matches(row and row["token_hash"])
    compute_ok = compute.matches(row and row["compute_hash"])
    if not token_ok:
        raise SecretRefusedError(
            "This group token is not known. Check it in node.env.", token.key_id
        )
    if row["ended_at"] is not None:
        raise rotated_for_machines(token.key_id, _minute(row))
    if not compute_ok:
        raise SecretRefusedError(
            "This compute secret is not the group's current one; it may have been rotated. "
            "Ask an admin of the group for the new one and put it into node.env.",
            compute.key_id,
        )
    _refuse_if_disabled(row)
    return _group(row)


async def authenticate_node(connection: Connection | Pool, text: str) -> Node:
    """Return the node of a node token. Also in a disabled group, where its jobs may end.

    Raises
    ------
    SecretRefusedError
        When the token is malformed or unknown, or ended by a later join.
    """
    secret = parse_secret(text, SecretType.NODE, name="node token")
    row = await queries.node_by_key_id(connection, key_id=secret.key_id)
    if not secret.matches(row and row["token_hash"]):
        raise SecretRefusedError(
            "This node token is not valid any more. The node has to join again.", secret.key_id
        )
    if row["seen_long_ago"]:
        await queries.touch_node(connection, node_id=row["id"])
    if row["keyless"]:
        await queries.note_public_key(
            connection,
            node_id=row["id"],
            key_id=secret.key_id,
            public_key=sealing.public_key(secret),
        )
    return Node(
        id=row["id"],
        group_id=row["group_id"],
        images_key_id=row["images_key_id"],
        _secret=secret,
        _group_token_sealed=row["group_token_sealed"],
    )


def parse_secret(text: str, kind: SecretType, *, name: str) -> Secret:
    """Parse a secret before anything is looked up for it.

    Raises
    ------
    SecretRefusedError
        When it is not of this kind, or a character is wrong.
    """
    try:
        return parse(text, kind)
    except MalformedSecretError as error:
        raise SecretRefusedError(f"This {name} cannot be right: {error}.") from None


def rotated_for_machines(key_id: str, when: str) -> SecretRefusedError:
    """Return the error for a machine whose group token was rotated."""
    return SecretRefusedError(
        f"The group token in node.env was rotated at {when}. Put the new one, which `leruli group "
        "token` prints, into LERULI_GROUP_TOKEN of node.env and start the node again.",
        key_id,
    )


def _group(row: Any) -> Group:
    return Group(
        id=row["id"],
        key_id=row["group_key_id"],
        epoch=row["compute_epoch"],
        token_key_id=row["token_key_id"],
    )


def _minute(row: Any) -> str:
    return f"{row['ended_at']:%Y-%m-%d %H:%M} UTC"


def _refuse_if_disabled(row: Any) -> None:
    # Not a SecretRefusedError: the secret is right, so the throttle must not count it.
    if row["disabled_at"] is not None:
        raise UserReportableError(
            "The group was disabled by the operator of this service. Its jobs and data are kept; "
            "ask the operator.",
            status=403,
        )
