"""How nodes are let into a Nomad cluster and out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias
from uuid import UUID

from leruli_queue.nodes.certificates import NodeSigner


class NodeAdmission(Protocol):
    """What joining needs of the cluster manager (``leruli_queue.nomad.gateway`` has it)."""

    async def admit_node(self, node_id: UUID, pool: str) -> str:
        """Make sure of the pool and return a token to register with."""

    async def drain_node(self, node_id: UUID, deadline_s: float) -> None:
        """Place nothing more on the node and stop what is left there after the deadline."""

    async def end_drain(self, node_id: UUID) -> None:
        """Let the node take jobs again, if it is known."""


@dataclass(frozen=True)
class Gate:
    """A cluster, as far as nodes are let into it."""

    name: str
    admission: NodeAdmission
    signer: NodeSigner


GateOf: TypeAlias = Callable[[str], Gate]
"""Returns the gate of a cluster by its name in the database.

It raises UserReportableError 503 where this service does not know the cluster.
"""
