"""Kill every part with SIGKILL; the seed gives the order and the times."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from soak.parts import Part, is_alive, kill

# `leruli-queue up` ends when a part ends for the sixth time within a minute.
_MOST_IN_A_MINUTE = 3
_BACK_WITHIN_S = 120.0
_POLL_S = 0.25
# Share of kills that hit two parts at once.
_PAIRS = 0.2


@dataclass(frozen=True)
class Kill:
    """A killed part, and the seconds until it worked again; None if it never did."""

    part: str
    at_s: float
    back_after_s: float | None


class Killer:
    """A thread that kills parts until `stop`."""

    def __init__(self, parts: Sequence[Part], seed: int, every_s: float) -> None:
        self._parts = parts
        self._chance = random.Random(f"killer {seed}")  # noqa: S311
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self._waiters: list[threading.Thread] = []
        self._recent: dict[str, deque[float]] = {part.name: deque() for part in parts}
        self._began = time.monotonic()
        self.kills: list[Kill] = []
        self._started = {part.name: 0 for part in parts}

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until every killed part works again."""
        self._stop.set()
        self._thread.join()
        for waiter in self._waiters:
            waiter.join()

    def fewest(self) -> int:
        """Return the number of kills of the part with the fewest."""
        return min(self._started.values())

    def total(self) -> int:
        """Return the number of kills."""
        return sum(self._started.values())

    def _run(self) -> None:
        while True:
            # One round kills each part once, so that no part is left out for long.
            order = list(self._parts)
            self._chance.shuffle(order)
            while order:
                count = 2 if self._chance.random() < _PAIRS else 1
                if self._stop.wait(self._chance.uniform(0.4, 1.6) * self._every_s):
                    return
                for part in order[:count]:
                    self._kill(part)
                del order[:count]

    def _kill(self, part: Part) -> None:
        now = time.monotonic()
        recent = self._recent[part.name]
        while recent and recent[0] < now - 60:
            recent.popleft()
        pid = part.pid()
        if len(recent) >= _MOST_IN_A_MINUTE or pid is None or not kill(pid, signal.SIGKILL):
            return
        recent.append(now)
        self._started[part.name] += 1
        waiter = threading.Thread(
            target=self._wait, args=(part, pid, now), name=f"waiting for {part.name}", daemon=True
        )
        waiter.start()
        self._waiters.append(waiter)

    def _wait(self, part: Part, pid: int, since: float) -> None:
        while time.monotonic() < since + _BACK_WITHIN_S:
            if not is_alive(pid) and part.pid() not in (None, pid) and part.is_back():
                self._note(part, since, time.monotonic() - since)
                return
            time.sleep(_POLL_S)
        self._note(part, since, None)

    def _note(self, part: Part, since: float, seconds: float | None) -> None:
        self.kills.append(Kill(part.name, since - self._began, seconds))
