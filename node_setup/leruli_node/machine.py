"""Which machine is this? A copy of its disk must not be taken for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")
_INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True)
class Machine:
    """What tells this machine from a copy, hashed; empty where it cannot be read.

    `name` is of /etc/machine-id. `cards` are the addresses of its network cards: images of disks
    are often copied with the machine id in them.
    """

    name: str = ""
    cards: tuple[str, ...] = ()

    def is_another_than(self, other: Machine) -> bool:
        """Whether this is certainly not the other machine."""
        if self.name and other.name and self.name != other.name:
            return True
        # One card of several may have been exchanged.
        return bool(self.cards and other.cards and not set(self.cards) & set(other.cards))


def this_machine(machine_id: Path = _MACHINE_ID, interfaces: Path = _INTERFACES) -> Machine:
    """Describe the machine that this runs on."""
    try:
        text = machine_id.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        text = ""
    return Machine(_hidden(text) if text else "", tuple(sorted(_cards(interfaces))))


def _cards(interfaces: Path) -> list[str]:
    found = []
    try:
        # Bridges and tunnels have no device; their addresses are made up anew.
        for path in interfaces.glob("*/device"):
            # 0 (or 3): the card's own, or set by hand; 1 is a random one.
            kind = (path.parent / "addr_assign_type").read_text(encoding="ascii").strip()
            address = (path.parent / "address").read_text(encoding="ascii").strip()
            if kind in ("0", "3") and address.strip("0:"):
                found.append(_hidden(address))
    except (OSError, UnicodeError):
        return []
    return found


def _hidden(text: str) -> str:
    # systemd asks that a machine id be told to nobody as it is.
    return hashlib.sha256(f"leruli-node {text}".encode()).hexdigest()[:32]
