"""The state that a stack stores from one start to the next: its ports and its secrets."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from leruli_queue.embedded.folders import write_private
from leruli_queue.embedded.ports import free_ports, is_free
from leruli_queue.errors import SetupError


@dataclass
class Ports:
    """TCP ports on the address of the stack."""

    service: int = 0
    object_store: int = 0
    nomad_http: int = 0
    nomad_rpc: int = 0
    nomad_serf: int = 0


@dataclass
class StackState:
    """Ports and secrets. The first start fills in the empty ones."""

    ports: Ports = field(default_factory=Ports)
    # Service, object store and Nomad listen here. Nodes on other machines must reach it.
    address: str = "127.0.0.1"
    postgres_password: str = field(default_factory=lambda: secrets.token_hex(20))
    object_store_access: str = "local"
    object_store_secret: str = field(default_factory=lambda: secrets.token_hex(20))
    nomad_management_token: str = field(default_factory=lambda: str(uuid4()))
    nomad_service_token: str = ""
    # Without it anybody who reaches the port can join as a server, without certificate or token.
    # Nomad reads it as base64, of 24 bytes.
    nomad_gossip_key: str = field(default_factory=lambda: secrets.token_hex(16))
    admin_secret: str = ""
    user_secret: str = ""
    group_token: str = ""
    compute_secret: str = ""

    def save(self, path: Path) -> None:
        """Write the state to a file that only its owner can read."""
        write_private(path, json.dumps(asdict(self), indent=2) + "\n")


def load_state(path: Path) -> StackState:
    """Read the state of an earlier start; return a new one if there is none.

    Raises
    ------
    SetupError
        When the file exists but is not a valid state.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        # Stacks from before the object store had only one key have this field.
        found.pop("object_store_root", None)
        return StackState(**(found | {"ports": Ports(**found["ports"])}))
    except FileNotFoundError:
        return StackState()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(
            f"{path} cannot be read ({type(error).__name__}): it was changed, or made by another "
            "version. Restore it, or start with an empty data folder."
        ) from error


def choose_ports(state: StackState, *, wanted_service_port: int | None) -> list[str]:
    """Choose free ports, the ones of the last start where possible.

    Returns
    -------
    Sentences about changed ports, for the person who started the stack.

    Raises
    ------
    SetupError
        When the wanted port is taken.
    """
    notes = []
    ports, address = state.ports, state.address
    if wanted_service_port is not None:
        if not is_free(address, wanted_service_port):
            raise SetupError(
                f"Port {wanted_service_port} is taken by another program. Choose another --port, "
                "or leave it out to have a free one chosen."
            )
        ports.service = wanted_service_port
    chosen: set[int] = set()
    for name, port in asdict(ports).items():
        if not port or port in chosen or not is_free(address, port):
            [new] = free_ports(1, address, chosen)
            if port:
                notes.append(f"port {port} of {name} is taken; using {new}")
            setattr(ports, name, new)
        chosen.add(getattr(ports, name))
    return notes
