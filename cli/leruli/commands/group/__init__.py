"""`leruli group`: what admins and readers of a group do, a file a verb."""

from __future__ import annotations

import click

from leruli.commands._lazy import LazyGroup

_VERBS = (
    "users",
    "create-user",
    "revoke-user",
    "rotate-compute-secret",
    "rotate-token",
    "token",
    "activity",
    "usage",
    "nodes",
    "drain-node",
    "resume-node",
    "remove-node",
    "audit",
)

_EPILOG = """\b
Settings, from the environment:
  LERULI_ADMIN_SECRET  the API secret of an admin: users, create-user, revoke-user,
                       rotate-compute-secret, rotate-token, drain-node, resume-node,
                       remove-node, audit. Asked for when it is not set.
  LERULI_GROUP_TOKEN   the group's token: activity, usage, nodes. By default it is fetched
                       with LERULI_API_SECRET.
"""


@click.group("group", cls=LazyGroup, package=__name__, verbs=_VERBS, epilog=_EPILOG)
def command() -> None:
    """Manage your group: users, secrets, machines; see who computes what."""
