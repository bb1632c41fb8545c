"""`leruli group`: the commands of admins and readers of a group, one file each."""

from __future__ import annotations

import click

from leruli.commands._lazy import LazyGroup

# The help line of each command. `leruli group --help` imports none of them.
_HELP_LINES = {
    "users": "List the users of your group.",
    "create-user": "Make a user of your group and print the API secret, this once.",
    "revoke-user": "End the secret of a user of your group, at once.",
    "rotate-compute-secret": "Make the first or a new compute secret and print it, this once.",
    "rotate-token": "Make a new token of your group, move its images, and print it.",
    "token": "Print the token of your group, which reads its activity and can change nothing.",
    "activity": "List the jobs of your group, the newest first: who, what, how far, since when.",
    "usage": "Print jobs and core-hours of your group by user, code and month.",
    "nodes": "List the machines of your group: how large, how busy, and why one gets no jobs.",
    "drain-node": "Give NODE (a name or an id) no more jobs.",
    "resume-node": "Give NODE (a name or an id) jobs again after a drain or failures.",
    "remove-node": "Remove NODE (a name or an id) for good.",
    "audit": "List what was done to users, secrets and others' jobs, newest first.",
}

_EPILOG = """\b
Settings, from the environment:
  LERULI_ADMIN_SECRET  the API secret of an admin: users, create-user, revoke-user,
                       rotate-compute-secret, rotate-token, drain-node, resume-node,
                       remove-node, audit. If it is not set, a prompt asks for it.
  LERULI_GROUP_TOKEN   the group's token: activity, usage, nodes. By default it is fetched
                       with LERULI_API_SECRET.
"""


@click.group("group", cls=LazyGroup, package=__name__, help_lines=_HELP_LINES, epilog=_EPILOG)
def command() -> None:
    """Manage your group: users, secrets, machines; see who computes what."""
