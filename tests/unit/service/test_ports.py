"""The ports that a stack gives to its parts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli_queue.embedded import ports
from leruli_queue.embedded.ports import free_ports


@pytest.fixture(autouse=True)
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[deque[socket.socket]]:
    """The claims of this test, apart from those of earlier tests."""
    own: deque[socket.socket] = deque(maxlen=64)
    monkeypatch.setattr(ports, "_claims", own)
    yield own
    give_up(own)


def give_up(claims: deque[socket.socket]) -> None:
    while claims:
        claims.pop().close()


@pytest.fixture
def ephemeral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the kernel's, so that no test changes the kernel's own."""
    file = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(ports, "_EPHEMERAL", file)
    return file


def test_no_outgoing_connection_can_get_a_port_before_its_program() -> None:
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest, highest = map(int, range_file.read_text().split())
    found = free_ports(200)
    assert len(set(found)) == 200
    assert not [port for port in found if lowest <= port <= highest]


def test_ports_that_the_kernel_uses_are_avoided(ephemeral: Path) -> None:
    ephemeral.write_text("1024\t29899\n")
    assert set(free_ports(50)) <= set(range(29_900, 30_000))


@pytest.mark.parametrize("said", ["1024\t65535\n", "nonsense", None])
def test_there_are_ports_if_the_kernel_uses_all_or_is_unreadable(
    ephemeral: Path, said: str | None
) -> None:
    if said is not None:
        ephemeral.write_text(said)
    assert len(set(free_ports(3))) == 3


@pytest.fixture
def three(ephemeral: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The only three ports that exist, all unclaimed."""
    found = free_ports(3)
    give_up(ports._claims)
    monkeypatch.setattr(ports, "_OURS", found)
    monkeypatch.setattr(ports, "_ANY", range(0))
    return found


def test_used_and_excluded_ports_are_left_out(
    three: list[int], claims: deque[socket.socket]
) -> None:
    first, second, third = three
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", first))
        listening.listen()
        assert set(free_ports(2)) == {second, third}
        give_up(claims)
        assert free_ports(1, but=[second]) == [third]
        give_up(claims)
        with pytest.raises(OSError, match=r"no 3 ports of 127\.0\.0\.1 are free"):
            free_ports(3)


def test_a_port_is_given_once_until_its_claim_ends(
    three: list[int], claims: deque[socket.socket]
) -> None:
    choose = f"from leruli_queue.embedded import ports; ports._OURS = {three}; ports._ANY = []\n"
    choose += "print(*ports.free_ports(1), flush=True); input()"
    command = [sys.executable, "-c", choose]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        mine = free_ports(2)
        assert {theirs, *mine} == set(three)
        with pytest.raises(OSError, match="no 1 ports"):
            free_ports(1)
        other.communicate("\n")
    assert free_ports(1) == [theirs]
    claims.popleft().close()
    assert free_ports(1) == mine[:1]
