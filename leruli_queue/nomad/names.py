"""Names of our jobs in Nomad: made and parsed here."""

from __future__ import annotations

import re
from uuid import UUID

from leruli_queue.jobs.attempts import AttemptId

PARENT_PREFIX = "leruli-"
"""The prefix of the ids of all our jobs in Nomad."""

NODE_DRIVER = "leruli"
"""The task driver of jobs on a node. Its health is that of the node's Docker."""

_NODE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHILD = re.compile(r"/dispatch-([0-9a-f]{32})x([0-9]{1,9})-[^/]*$")


def attempt_token(attempt: AttemptId) -> str:
    """Return the text that is both id prefix and idempotency token of the attempt's dispatch."""
    return f"{attempt.job_id.hex}x{attempt.number}"


def node_id_of(text: object) -> UUID | None:
    """Read a node's id in the form that the service gives out; None for any other form.

    A node can invent an id: Nomad also takes 36 hexadecimal digits with hyphens anywhere or none.
    """
    return UUID(text) if isinstance(text, str) and _NODE.fullmatch(text) else None


def attempt_of_child(child_id: str) -> AttemptId | None:
    """Read the attempt from the id of a child job; None if it is not ours."""
    match = _CHILD.search(child_id)
    return AttemptId(UUID(match[1]), int(match[2])) if match else None
