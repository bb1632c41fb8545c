"""Throttle: delay the answers to wrong secrets, and no other answers.

Wrong secrets are counted by address and by key id. The delay doubles with each one. A right secret
is answered at once, whatever was tried from the same address or with its key id: nobody can lock
out somebody else. During the delay no connection to the database is in use.

Each process counts for itself. With N copies of the service an attacker has N times the tries,
which does not matter against 130 random bits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Iterable

from leruli_queue.errors import UserReportableError

# Wrong secrets without a delay: typing errors, an old secret in a script.
_FREE = 5
# The count decreases by one in this time.
_FORGOTTEN_AFTER_S = 10.0
_FIRST_DELAY_S = 0.1
# Addresses and key ids that are counted; beyond it the one not seen for longest is forgotten.
_MOST_COUNTS = 10_000
# Without a highest count, a flood of wrong secrets would delay an address for days after it.
_HIGHEST_COUNT = 100.0


class TooManyAttemptsError(UserReportableError):
    """Too many answers are delayed already, so this one is given at once, as a 429."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "The secret was refused, like many before it. Check it before you try again.",
            status=429,
            retry_after=retry_after,
        )


class Throttle:
    """Counts wrong secrets and delays the answers to them.

    Parameters
    ----------
    longest_s
        Longest delay of an answer in seconds; 0 switches the delays off.
    most_delayed
        Answers that are delayed at the same time.
    """

    def __init__(self, *, longest_s: float, most_delayed: int) -> None:
        self._longest_s = longest_s
        self._most_delayed = most_delayed
        self._delayed = 0
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def hold_back(self, address: str | None, key_ids: Iterable[str | None]) -> None:
        """Count wrong secrets and return after the delay of their answer.

        Raises
        ------
        TooManyAttemptsError
            At once, when too many answers are delayed already.
        """
        delay = self.note(address, key_ids)
        if not delay:
            return
        if self._delayed >= self._most_delayed:
            raise TooManyAttemptsError(max(1, round(self._longest_s)))
        self._delayed += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._delayed -= 1

    def note(
        self, address: str | None, key_ids: Iterable[str | None], *, now: float | None = None
    ) -> float:
        """Count wrong secrets and return the delay of their answer in seconds.

        ``now`` is the time of a monotonic clock in seconds; only tests pass it.
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
        level = min(level, _HIGHEST_COUNT)
        self._failures[name] = (level, now)
        if len(self._failures) > _MOST_COUNTS:
            self._failures.popitem(last=False)
        return level


def _network(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address, which one user owns."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
