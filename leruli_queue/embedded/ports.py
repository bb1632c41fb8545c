"""Ports for programs that take some time to start."""

from __future__ import annotations

import errno
import random
import socket
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

# The ports that the kernel gives to outgoing connections.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Above the ports of most services, below Kubernetes's node ports and the kernel's usual range.
_OURS = range(20_000, 30_000)
_ANY = range(1024, 65536)
# The latest ports that this process chose. The programs of earlier ones have started long ago.
_claims: deque[socket.socket] = deque(maxlen=64)


def free_ports(count: int, address: str = "127.0.0.1", but: Collection[int] = ()) -> list[int]:
    """Return free and unclaimed ports on the address, for TCP and UDP.

    A program takes seconds until it listens on its port, and another program could take the port
    meanwhile. So each port is claimed: this function does not return it again while this process
    lives and has not chosen 64 others. Ports that the kernel gives to outgoing connections are
    avoided as far as possible. So the port also stays free while the program is restarted.

    Parameters
    ----------
    but
        Ports that must not be returned.

    Raises
    ------
    OSError
        When not enough ports are free.
    """
    found: list[int] = []
    for port in _candidates():
        if len(found) == count:
            break
        if port not in but and port not in found and is_free(address, port) and _claim(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"no {count} ports of {address} are free")
    return found


def is_free(address: str, port: int) -> bool:
    """Tell whether a program could listen on the port now, by TCP and UDP."""
    # Nomad's serf also needs the UDP port.
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
    ):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind((address, port))
            datagram.bind((address, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Claim a port, unless it is claimed already; return whether it was claimed.

    The claim is the abstract name of a unix socket, which only one socket can have. Abstract names,
    like ports, belong to a network namespace, and end with the process.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0leruli-queue-port-{port}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    if len(_claims) == _claims.maxlen:
        _claims.popleft().close()
    _claims.append(claim)
    return True


def _candidates() -> Iterator[int]:
    """Yield ports in random order, the best range first; each range is made only when needed."""
    ephemeral = _ephemeral_ports()
    ours = [port for port in _OURS if port not in ephemeral]
    yield from random.sample(ours, len(ours))
    yield from random.sample(_ANY, len(_ANY))


def _ephemeral_ports() -> Sequence[int]:
    try:
        lowest, highest = map(int, _EPHEMERAL.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return range(0)
    return range(lowest, highest + 1)
