"""A real second node of the honest group, whose S3 settings lead to another, empty storage.

The address of a test storage with the same key looks right to the node: its check passes, and each
job fails on it within a second, for an image that is not there.
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
    """The node's agent and its storage."""

    def __init__(self, stack: SoakStack, data: Path) -> None:
        self._folder = data / NAME
        store = data / "broken-store"
        store.mkdir()
        [port] = free_ports(1)
        environment = environment_of(stack.pid_of("node"))
        keys = {
            "LERULI_OBJECTS_ACCESS": stack.kept.object_store_access,
            "LERULI_OBJECTS_SECRET": stack.kept.object_store_secret,
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
        """Its id, once it has joined."""
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads((self._folder / "node.json").read_text())["nodeid"])
        return None

    def stop(self) -> None:
        """End both, the agent first."""
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
    """Run such a node for as long as the block lasts."""
    node = BrokenNode(stack, data)
    try:
        yield node
    finally:
        node.stop()


def environment_of(pid: int | None) -> dict[str, str]:
    """Return the environment that a process was started with."""
    told = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").rstrip("\0").split("\0")
    return dict(variable.split("=", 1) for variable in told)
