"""The gate of a Nomad cluster: what joining and leaving need of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import UUID

from leruli_queue.nodes.certificates import NodeSigner


class NodeAdmission(Protocol):
    """The calls of the cluster manager for nodes (``leruli_queue.nomad.gateway`` has them)."""

    async def admit_node(self, node_id: UUID, pool: str) -> str:
        """Make the pool if it is missing; return a token with which the node registers."""

    async def drain_node(self, node_id: UUID, deadline_s: float) -> None:
        """Place no more jobs on the node, and stop those that still run after ``deadline_s``."""

    async def end_drain(self, node_id: UUID) -> None:
        """Let the node take jobs again, if Nomad knows it."""


@dataclass(frozen=True)
class Gate:
    """The name, node calls and certificate signer of a cluster."""

    name: str
    admission: NodeAdmission
    signer: NodeSigner


GateOf: TypeAlias = Callable[[str], Gate]
"""Returns the gate of a cluster by its name in the database.

It raises UserReportableError (503) if this service does not know the cluster.
"""
