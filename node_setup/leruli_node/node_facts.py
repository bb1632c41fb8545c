"""Facts about this node that the agent stores for its next run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from leruli_node.folders import write_file
from leruli_node.model import known_fields

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeFacts:
    """Facts that outlive the process. None is a secret."""

    nodeid: str | None = None
    imageprefix: str | None = None
    nomad_port: int | None = None
    # Hashes of leruli_node.machine; empty in the file of an earlier release.
    machine: str = ""
    cards: Sequence[str] = ()


def read_node(path: Path) -> NodeFacts:
    """Return the facts of an earlier run; empty ones if there was none."""
    try:
        return NodeFacts(**known_fields(NodeFacts, json.loads(path.read_bytes())))
    except FileNotFoundError:
        return NodeFacts()
    except (ValueError, TypeError, AttributeError):
        log.error("node.json cannot be read; joining as a new node")
        return NodeFacts()


def write_node(path: Path, facts: NodeFacts) -> None:
    """Store the facts durably."""
    write_file(path, json.dumps(asdict(facts)).encode())
