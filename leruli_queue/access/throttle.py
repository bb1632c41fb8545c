"""Slow down whoever tries wrong secrets, and nobody else.

Wrong attempts are counted by address and by key id, and the answer to the next wrong one waits
longer and longer. A secret that is right is answered at once, whatever was tried before from the
same address or under its key id, so that nobody can lock another out. Nothing is kept waiting but
the answer: no connection to the database is held meanwhile.

Each process counts for itself: with N copies of the service an attacker has N times the attempts,
which does not matter against 130 random bits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Iterable

from leruli_queue.errors import UserReportableError

# Wrong attempts that cost nothing: typing errors, an old secret in a script.
_FREE = 5
# One attempt is forgotten in so many seconds.
_FORGOTTEN_AFTER_S = 10.0
_FIRST_DELAY_S = 0.1
_KEPT = 10_000


class TooManyAttemptsError(UserReportableError):
    """So many answers are being held back that this one is given at once, as a 429."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "The secret was refused, as many before it. Check it before you try again.",
            status=429,
            retry_after=retry_after,
        )


class Throttle:
    """Counts wrong attempts and holds back the answers to them.

    Parameters
    ----------
    longest_s
        Seconds that an answer is held back at most; 0 switches it off.
    most_waiting
        Answers that are held back at the same time.
    """

    def __init__(self, *, longest_s: float, most_waiting: int) -> None:
        self._longest_s = longest_s
        self._most_waiting = most_waiting
        self._waiting = 0
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def hold_back(self, address: str | None, key_ids: Iterable[str | None]) -> None:
        """Note wrong attempts and return when they may be answered.

        Raises
        ------
        TooManyAttemptsError
            Instead of waiting when too many wait already.
        """
        delay = self.note(address, key_ids)
        if not delay:
            return
        if self._waiting >= self._most_waiting:
            raise TooManyAttemptsError(max(1, round(self._longest_s)))
        self._waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._waiting -= 1

    def note(
        self, address: str | None, key_ids: Iterable[str | None], *, now: float | None = None
    ) -> float:
        """Note wrong attempts and return the seconds that their answer has to wait.

        ``now``: seconds of a monotonic clock; only tests give it.
        """
        now = time.monotonic() if now is None else now
        attempts = list(key_ids)
        counted = {f"key {key_id}": 1 for key_id in attempts if key_id is not None}
        if address is not None:
            counted[f"address {_network(address)}"] = len(attempts)
        level = max((self._add(name, count, now) for name, count in counted.items()), default=0.0)
        if level <= _FREE:
            return 0.0
        return float(min(self._longest_s, _FIRST_DELAY_S * 2 ** min(level - _FREE - 1, 30)))

    def _add(self, name: str, count: int, now: float) -> float:
        level, since = self._failures.pop(name, (0.0, now))
        level = max(0.0, level - (now - since) / _FORGOTTEN_AFTER_S) + count
        # What counts for ever would punish an address for ever.
        level = min(level, 100.0)
        self._failures[name] = (level, now)
        if len(self._failures) > _KEPT:
            self._failures.popitem(last=False)
        return level


def _network(address: str) -> str:
    """Return what one attacker has: an IPv4 address, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
