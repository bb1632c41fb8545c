"""The parts that are killed: how each is found, and when it is back."""

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
"""Of all parts; `node` is the node's agent, and `Nomad client` the Nomad under it."""


@dataclass(frozen=True)
class Part:
    """A part of a stack as the one who kills it sees it."""

    name: str
    # Its process, None while there is none.
    pid: Callable[[], int | None]
    # Whether it does its work, so far as the others let it.
    is_back: Callable[[], bool]


def parts_of(stack: SoakStack) -> list[Part]:
    """Return all parts of a stack."""
    folders, kept = stack.folders, stack.kept

    def of_stack(name: str, is_back: Callable[[], bool]) -> Part:
        return Part(name, lambda: stack.pid_of(name), is_back)

    return [
        of_stack("PostgreSQL", lambda: postgres.answers(stack.database_url)),
        of_stack("service", stack.answers),
        of_stack("dispatcher", lambda: _has_leader(stack)),
        of_stack("Nomad server", lambda: nomad_server.has_leader(folders, kept)),
        of_stack("object store", lambda: object_store.answers(kept)),
        of_stack("node", lambda: _listens(stack)),
        Part("Nomad client", stack.nomad_client_pid, lambda: _client_is_ready(stack)),
    ]


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, dead ones that nobody waited for left out."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, number: int) -> bool:
    """Send a signal; whether there was a process to get it."""
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
    """Tell whether the node's agent is there for jobs."""
    try:
        configuration = json.loads((stack.folders.node / "nomad.json").read_text(encoding="utf-8"))
        with socket.socket(socket.AF_UNIX) as probe:
            plugins = ChainMap(*configuration["plugin"])
            probe.connect(plugins["leruli"]["config"]["socket"])
    except OSError:
        return False
    return True


def _client_is_ready(stack: SoakStack) -> bool:
    """Tell whether Nomad's server has the node as ready."""
    try:
        return str(stack.nomad(f"/v1/node/{stack.node_id}")["Status"]) == "ready"
    except Exception:  # the server is away
        return False
