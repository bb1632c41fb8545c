"""A real second node of the honest group, whose S3 settings name another, empty store.

The store is a test store with the same key, so the node's check passes. Each job on this node fails
within a second, as its image is missing there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from leruli_queue.embedded.ports import free_ports
from leruli_queue.embedded.programs import find_programs
from soak.stack import SoakStack

NAME = "broken"
_ENDS_WITHIN_S = 120


class BrokenNode:
    """The agent of the broken node, and its store."""

    def __init__(self, stack: SoakStack, data: Path) -> None:
        self._folder = data / NAME
        store = data / "broken-store"
        store.mkdir()
        [port] = free_ports(1)
        environment = environment_of(stack.pid_of("node"))
        keys = {
            "LERULI_OBJECTS_ACCESS": stack.state.object_store_access,
            "LERULI_OBJECTS_SECRET": stack.state.object_store_secret,
        }
        with (data / "logs" / f"{NAME}.log").open("ab") as log:
            self._store = subprocess.Popen(
                [find_programs().objects, "-listen", f"127.0.0.1:{port}", "-folder", store],
                env=environment | keys,
                stdout=log,
                stderr=log,
            )
            self._agent = subprocess.Popen(
                [Path(sys.executable).parent / "leruli-node", "run"],
                env=environment
                | {
                    "LERULI_NODE_DIR": str(self._folder),
                    "LERULI_NODE_NAME": NAME,
                    "LERULI_S3_SERVER": f"http://127.0.0.1:{port}",
                },
                stdout=log,
                stderr=log,
            )

    @property
    def node_id(self) -> str | None:
        """Id of the node; None before it has joined."""
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads((self._folder / "node.json").read_text())["nodeid"])
        return None

    def stop(self) -> None:
        """Stop the agent, then the store."""
        self._agent.terminate()
        try:
            self._agent.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait()
        self._store.terminate()
        self._store.wait()


@contextmanager
def broken_node(stack: SoakStack, data: Path) -> Iterator[BrokenNode]:
    """Run a broken node inside the block."""
    node = BrokenNode(stack, data)
    try:
        yield node
    finally:
        node.stop()


def environment_of(pid: int | None) -> dict[str, str]:
    """Return the environment with which a process was started."""
    variables = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").rstrip("\0").split("\0")
    return dict(variable.split("=", 1) for variable in variables)
