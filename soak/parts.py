"""The parts that are killed: the process of each, and the test whether it works again."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass

from leruli_queue.embedded import nomad_server, object_store, postgres
from leruli_queue.store.locks import DISPATCHER_LOCK
from soak.stack import SoakStack

_LEADERS = """
SELECT 1 FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = $1::bigint
"""


NAMES = (
    "PostgreSQL",
    "service",
    "dispatcher",
    "Nomad server",
    "object store",
    "node",
    "Nomad client",
)
"""Names of all parts. `node` is the node agent, `Nomad client` is its child process."""


@dataclass(frozen=True)
class Part:
    """A part of a stack, as the killer needs it."""

    name: str
    # Returns its process id; None while there is no process.
    pid: Callable[[], int | None]
    # Returns whether it works again, as far as the other parts allow.
    is_back: Callable[[], bool]


def parts_of(stack: SoakStack) -> list[Part]:
    """Return all parts of a stack."""
    folders, state = stack.folders, stack.state

    def of_stack(name: str, is_back: Callable[[], bool]) -> Part:
        return Part(name, lambda: stack.pid_of(name), is_back)

    return [
        of_stack("PostgreSQL", lambda: postgres.answers(stack.database_url)),
        of_stack("service", stack.answers),
        of_stack("dispatcher", lambda: _has_leader(stack)),
        of_stack("Nomad server", lambda: nomad_server.has_leader(folders, state)),
        of_stack("object store", lambda: object_store.answers(state)),
        of_stack("node", lambda: _listens(stack)),
        Part("Nomad client", stack.nomad_client_pid, lambda: _client_is_ready(stack)),
    ]


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: int) -> bool:
    """Send a signal; return whether the process existed."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _has_leader(stack: SoakStack) -> bool:
    try:
        return bool(asyncio.run(stack.fetch(_LEADERS, DISPATCHER_LOCK)))
    except Exception:  # the database is away
        return False


def _listens(stack: SoakStack) -> bool:
    """Return whether the node agent accepts stage calls."""
    try:
        configuration = json.loads((stack.folders.node / "nomad.json").read_text(encoding="utf-8"))
        with socket.socket(socket.AF_UNIX) as probe:
            plugins = ChainMap(*configuration["plugin"])
            probe.connect(plugins["leruli"]["config"]["socket"])
    except OSError:
        return False
    return True


def _client_is_ready(stack: SoakStack) -> bool:
    """Return whether the node is ready according to Nomad's server."""
    try:
        return str(stack.nomad(f"/v1/node/{stack.node_id}")["Status"]) == "ready"
    except Exception:  # the server is away
        return False
