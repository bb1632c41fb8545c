"""Identifies this machine, so that a copy of its disk is not mistaken for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")
_INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True)
class Machine:
    """Hashes that differ between this machine and a copy; empty where they cannot be read.

    `name` is the hash of /etc/machine-id. `cards` are the hashed addresses of the network cards:
    disk images are often copied together with the machine id.
    """

    name: str = ""
    cards: tuple[str, ...] = ()

    def is_another_than(self, other: Machine) -> bool:
        """Return whether the two are certainly different machines."""
        if self.name and other.name and self.name != other.name:
            return True
        # One of several cards may have been replaced.
        return bool(self.cards and other.cards and not set(self.cards) & set(other.cards))


def this_machine(machine_id: Path = _MACHINE_ID, interfaces: Path = _INTERFACES) -> Machine:
    """Describe the machine on which this process runs."""
    try:
        text = machine_id.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        text = ""
    return Machine(_hidden(text) if text else "", tuple(sorted(_cards(interfaces))))


def _cards(interfaces: Path) -> list[str]:
    found = []
    try:
        # Bridges and tunnels have no device; their addresses are random.
        for path in interfaces.glob("*/device"):
            # 0 is the card's own address, 3 was set by hand, 1 is random.
            kind = (path.parent / "addr_assign_type").read_text(encoding="ascii").strip()
            address = (path.parent / "address").read_text(encoding="ascii").strip()
            if kind in ("0", "3") and address.strip("0:"):
                found.append(_hidden(address))
    except (OSError, UnicodeError):
        return []
    return found


def _hidden(text: str) -> str:
    # systemd's documentation asks that the plain machine id is kept confidential.
    return hashlib.sha256(f"leruli-node {text}".encode()).hexdigest()[:32]
