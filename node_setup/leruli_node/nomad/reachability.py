"""Checks whether Nomad's servers can be reached.

Nomad itself says so only in its log, and retries for ever.
"""

from __future__ import annotations

import logging
import socket

from leruli_node.errors import EXIT_UNREACHABLE, AgentError
from leruli_node.folders import Folders

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0


def check_servers(servers: list[str], folders: Folders) -> None:
    """Check that one of the servers can be reached.

    A node that was connected before only logs the failure: the network may come back, and Nomad
    then connects by itself.

    Raises
    ------
    AgentError
        No server can be reached, and this node was never connected: its operator is still there.
    """
    if any(_answers(server) for server in servers):
        return
    sentence = (
        f"none of Nomad's servers can be reached from here: {', '.join(servers)}. Allow outgoing "
        "TCP connections to there"
    )
    if (folders.nomad_data / "client" / "state.db").exists():
        log.error("%s; Nomad keeps trying", sentence)
    else:
        raise AgentError(f"{sentence}.", EXIT_UNREACHABLE)


def _answers(server: str) -> bool:
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
