"""Who may call what, and on whose jobs: the one table.

docs/admins/security.md has the same table for people; a test compares the two. Another test calls
every route of the service with every kind of secret, and compares the answers with :data:`RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from types import MappingProxyType


class Call(StrEnum):
    """Every call of the API; the value is its path below the version."""

    LIVEZ = "livez"
    READYZ = "readyz"
    METRICS = "metrics"
    NODE_PACKAGE = "nomadrun.tar"
    OPENAPI = "openapi.json"

    TASK_CHECK = "task-check"
    TASK_SUBMIT = "task-submit"
    BULK_TASK_SUBMIT = "bulk/task-submit"
    TASK_STATUS = "task-status"
    TASK_FOLLOW = "task-follow"
    TASK_CANCEL = "task-cancel"
    TASK_BUCKET = "task-bucket"
    TASK_DETAIL = "task-detail"
    TASK_RESOLVE = "task-resolve"
    TASK_LIST = "task-list"
    TASK_REPORT = "task-report"
    TASK_EVENTS = "task-events"
    BULK_TASK_STATUS = "bulk/task-status"
    BULK_TASK_CANCEL = "bulk/task-cancel"
    BULK_TASK_FIND = "bulk/task-find"

    BATCH_LIST = "batch-list"
    BATCH_STATUS = "batch-status"
    BATCH_CANCEL = "batch-cancel"
    BATCH_MAIL = "batch-mail"

    GROUP_TOKEN = "group-token"  # noqa: S105
    GROUP_ACTIVITY = "group-activity"
    GROUP_EVENTS = "group-events"
    GROUP_USAGE = "group-usage"
    GROUP_LIST_USERS = "group-list-users"
    GROUP_CREATE_USER = "group-create-user"
    GROUP_REVOKE_USER = "group-revoke-user"
    GROUP_ROTATE_COMPUTE_SECRET = "group-rotate-compute-secret"  # noqa: S105
    GROUP_ROTATE_TOKEN = "group-rotate-token"  # noqa: S105
    GROUP_IMAGE_TOKENS = "group-image-tokens"
    GROUP_IMAGES_MOVED = "group-images-moved"
    GROUP_AUDIT = "group-audit"

    GROUP_NODES = "group-nodes"
    GROUP_NODE_DRAIN = "group-node-drain"
    GROUP_NODE_RESUME = "group-node-resume"
    GROUP_NODE_REMOVE = "group-node-remove"

    NODE_JOIN = "node-join"
    NODE_LEAVE = "node-leave"
    NODE_CERTIFICATE = "node-certificate"
    NODE_REPORT = "node-report"
    ATTEMPT_START = "attempt-start"
    ATTEMPT_UPLOAD = "attempt-upload"
    ATTEMPT_END = "attempt-end"
    SLOT_NEXT = "slot-next"


class Role(StrEnum):
    """The role that a secret gives to its sender; the value is its name in the documentation."""

    ANYBODY = "anybody"  # no secret needed
    READER = "group token"  # holds the group token
    USER = "user"
    ADMIN = "admin"
    MACHINE = "machine"  # holds the group token and the compute secret
    NODE = "node"  # has joined, and holds its own token


class Whose(StrEnum):
    """Whose jobs a call may touch; the value is its name in the documentation."""

    NOBODYS = "yes"  # the call is not about a job
    OWN = "own jobs"
    GROUP = "jobs of the group"


class Effect(Enum):
    """What a call does. It decides how its secret is locked against revocation."""

    READS = auto()
    # A transaction locks the secret. A revocation waits for it, and later calls are refused. So
    # nothing is written after the revocation was answered.
    WRITES = auto()
    # As WRITES, but the single statement that writes also locks the secret and checks the user.
    SUBMITS = auto()
    # As WRITES, and one such call of a group at a time: no admin decides on data that another admin
    # is changing.
    ADMINISTERS = auto()


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    # The fields of the body that hold the secret; empty if none is needed. If readers and admins
    # may make the call, either field is enough.
    fields: tuple[str, ...]
    may: Mapping[Role, Whose]
    effect: Effect = Effect.READS


_PUBLIC = Rule((), {Role.ANYBODY: Whose.NOBODYS})
_USERS_OWN = {Role.USER: Whose.OWN, Role.ADMIN: Whose.OWN}
_USERS = {Role.USER: Whose.OWN, Role.ADMIN: Whose.GROUP}
_READERS = Rule(("grouptoken",), {Role.READER: Whose.GROUP})
_ADMINS_READ = Rule(("adminsecret",), {Role.ADMIN: Whose.NOBODYS})
_ADMINS_CHANGE = Rule(("adminsecret",), {Role.ADMIN: Whose.NOBODYS}, Effect.ADMINISTERS)
_NODES = Rule(("nodetoken",), {Role.NODE: Whose.GROUP}, Effect.WRITES)

RULES: Mapping[Call, Rule] = MappingProxyType(
    {
        Call.LIVEZ: _PUBLIC,
        Call.READYZ: _PUBLIC,
        Call.METRICS: _PUBLIC,
        Call.NODE_PACKAGE: _PUBLIC,
        Call.OPENAPI: _PUBLIC,
        Call.TASK_CHECK: Rule(("secret",), dict.fromkeys(_USERS, Whose.NOBODYS)),
        Call.TASK_SUBMIT: Rule(("secret",), _USERS_OWN, Effect.SUBMITS),
        Call.BULK_TASK_SUBMIT: Rule(("secret",), _USERS_OWN, Effect.SUBMITS),
        Call.TASK_STATUS: Rule(("secret",), _USERS),
        Call.TASK_FOLLOW: Rule(("secret",), _USERS, Effect.WRITES),
        Call.TASK_CANCEL: Rule(("secret",), _USERS, Effect.WRITES),
        Call.TASK_BUCKET: Rule(("secret",), _USERS, Effect.WRITES),
        Call.TASK_DETAIL: Rule(("secret",), _USERS),
        Call.TASK_RESOLVE: Rule(("secret",), _USERS_OWN),
        Call.TASK_LIST: Rule(("secret",), _USERS_OWN),
        Call.TASK_REPORT: Rule(("secret",), _USERS_OWN),
        Call.TASK_EVENTS: Rule(("secret",), _USERS_OWN),
        Call.BULK_TASK_STATUS: Rule(("secret",), _USERS),
        Call.BULK_TASK_CANCEL: Rule(("secret",), _USERS, Effect.WRITES),
        Call.BULK_TASK_FIND: Rule(("secret",), _USERS_OWN),
        Call.BATCH_LIST: Rule(("secret",), _USERS_OWN),
        Call.BATCH_STATUS: Rule(("secret",), _USERS_OWN),
        Call.BATCH_CANCEL: Rule(("secret",), _USERS_OWN, Effect.WRITES),
        Call.BATCH_MAIL: Rule(("secret",), _USERS_OWN, Effect.WRITES),
        Call.GROUP_TOKEN: Rule(("secret",), dict.fromkeys(_USERS, Whose.NOBODYS)),
        Call.GROUP_ACTIVITY: _READERS,
        Call.GROUP_EVENTS: _READERS,
        Call.GROUP_USAGE: _READERS,
        Call.GROUP_LIST_USERS: _ADMINS_READ,
        Call.GROUP_CREATE_USER: _ADMINS_CHANGE,
        Call.GROUP_REVOKE_USER: _ADMINS_CHANGE,
        Call.GROUP_ROTATE_COMPUTE_SECRET: _ADMINS_CHANGE,
        Call.GROUP_ROTATE_TOKEN: _ADMINS_CHANGE,
        Call.GROUP_IMAGE_TOKENS: Rule(("secret",), dict.fromkeys(_USERS, Whose.NOBODYS)),
        Call.GROUP_IMAGES_MOVED: _ADMINS_CHANGE,
        Call.GROUP_AUDIT: _ADMINS_READ,
        Call.GROUP_NODES: Rule(
            ("grouptoken", "adminsecret"), {Role.READER: Whose.GROUP, Role.ADMIN: Whose.GROUP}
        ),
        Call.GROUP_NODE_DRAIN: _ADMINS_CHANGE,
        Call.GROUP_NODE_RESUME: _ADMINS_CHANGE,
        Call.GROUP_NODE_REMOVE: _ADMINS_CHANGE,
        Call.NODE_JOIN: Rule(
            ("grouptoken", "computesecret"), {Role.MACHINE: Whose.NOBODYS}, Effect.WRITES
        ),
        Call.NODE_LEAVE: Rule(("nodetoken",), {Role.NODE: Whose.NOBODYS}, Effect.WRITES),
        Call.NODE_CERTIFICATE: Rule(("nodetoken",), {Role.NODE: Whose.NOBODYS}, Effect.WRITES),
        Call.NODE_REPORT: _NODES,
        Call.ATTEMPT_START: _NODES,
        Call.ATTEMPT_UPLOAD: _NODES,
        Call.ATTEMPT_END: _NODES,
        Call.SLOT_NEXT: _NODES,
    }
)
"""The table: for each call the fields of its secret, and which roles may make it on whose jobs."""
