"""`leruli group`: what admins and readers of a group do, a file a verb."""

from __future__ import annotations

import click

from leruli.commands.group import (
    activity,
    audit,
    create_user,
    drain_node,
    nodes,
    remove_node,
    resume_node,
    revoke_user,
    rotate_compute_secret,
    token,
    usage,
    users,
)

_EPILOG = """\b
Settings, from the environment:
  LERULI_ADMIN_SECRET  the API secret of an admin: users, create-user, revoke-user,
                       rotate-compute-secret, drain-node, resume-node, remove-node, audit.
                       Asked for when it is not set.
  LERULI_GROUP_TOKEN   the group's token: activity, usage, nodes. By default it is fetched
                       with LERULI_API_SECRET.
"""


@click.group("group", epilog=_EPILOG)
def command() -> None:
    """Manage your group: users, secrets, machines; see who computes what."""


for _verb in (
    users.command,
    create_user.command,
    revoke_user.command,
    rotate_compute_secret.command,
    token.command,
    activity.command,
    usage.command,
    nodes.command,
    drain_node.command,
    resume_node.command,
    remove_node.command,
    audit.command,
):
    command.add_command(_verb)
