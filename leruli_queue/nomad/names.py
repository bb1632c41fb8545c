"""Names that our jobs have in Nomad, made and taken apart in one place."""

from __future__ import annotations

import re
from uuid import UUID

from leruli_queue.jobs.attempts import AttemptId

PARENT_PREFIX = "leruli-"
"""With this begin the ids of all our jobs in Nomad."""

NODE_DRIVER = "leruli"
"""The task driver of jobs on a node; its health is that of the node's Docker."""

_NODE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CHILD = re.compile(r"/dispatch-([0-9a-f]{32})x([0-9]{1,9})-[^/]*$")


def attempt_token(attempt: AttemptId) -> str:
    """Return the attempt as text: id prefix and idempotency token of its dispatch."""
    return f"{attempt.job_id.hex}x{attempt.number}"


def node_id_of(text: object) -> UUID | None:
    """Read a node's id as the service gives it out; None for any other, which a node can invent.

    Nomad takes 36 hexadecimal digits as well, with hyphens anywhere or none.
    """
    return UUID(text) if isinstance(text, str) and _NODE.fullmatch(text) else None


def attempt_of_child(child_id: str) -> AttemptId | None:
    """Read the attempt from the id of a dispatched job; None when it is not one of ours."""
    match = _CHILD.search(child_id)
    return AttemptId(UUID(match[1]), int(match[2])) if match else None
