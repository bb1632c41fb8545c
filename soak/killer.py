"""Kills every part with SIGKILL, in an order and at times that follow from the seed."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from soak.parts import Part, is_alive, kill

# `leruli-queue up` gives up at the sixth end of a part within a minute.
_MOST_IN_A_MINUTE = 3
_BACK_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.25
# How often two parts are killed at once.
_PAIRS = 0.2


@dataclass(frozen=True)
class Kill:
    """A part that was killed, and the seconds until it was back; None: it never was."""

    part: str
    at_s: float
    back_after_s: float | None


class Killer:
    """A thread that kills until told to stop."""

    def __init__(self, parts: Sequence[Part], seed: int, every_s: float) -> None:
        self._parts = parts
        self._chance = random.Random(f"killer {seed}")  # noqa: S311
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
        self._waiting: list[threading.Thread] = []
        self._recent: dict[str, deque[float]] = {part.name: deque() for part in parts}
        self._began = time.monotonic()
        self.kills: list[Kill] = []
        self._started = {part.name: 0 for part in parts}

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until all that was killed is back."""
        self._stop.set()
        self._thread.join()
        for waiting in self._waiting:
            waiting.join()

    def fewest(self) -> int:
        """Return how often the part was killed that was killed least."""
        return min(self._started.values())

    def total(self) -> int:
        """Return how many kills there were."""
        return sum(self._started.values())

    def _run(self) -> None:
        while True:
            # Rounds, so that each part has its turn soon.
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
        waiting = threading.Thread(
            target=self._wait, args=(part, pid, now), name=f"waiting for {part.name}", daemon=True
        )
        waiting.start()
        self._waiting.append(waiting)

    def _wait(self, part: Part, pid: int, since: float) -> None:
        while time.monotonic() < since + _BACK_WITHIN_S:
            if not is_alive(pid) and part.pid() not in (None, pid) and part.is_back():
                self._note(part, since, time.monotonic() - since)
                return
            time.sleep(_LOOK_EVERY_S)
        self._note(part, since, None)

    def _note(self, part: Part, since: float, seconds: float | None) -> None:
        self.kills.append(Kill(part.name, since - self._began, seconds))
