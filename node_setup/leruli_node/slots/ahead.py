"""The attempts after the running one: granted and prepared while it runs.

Containers are made one at a time: each costs memory, and Docker more time than a command saves. In
a shared container that runs, several attempts are prepared, for one call of slot-next.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.errors import StoppedError
from leruli_node.model import AttemptId
from leruli_node.slots.container import GoneError
from leruli_node.slots.parts import SlotParts

log = logging.getLogger(__name__)

# Beside very short jobs: how many attempts a question asks for, and how few are left then.
_MANY = 4
_FEW = 2
# Seconds of the latest stage-in above which a question asks for one attempt. So large inputs do not
# gather on the node's disk.
_QUICK_S = 0.3
# Seconds for which granted attempts wait behind a stage-in while no command runs.
_LATE_S = 3.0


class Ahead:
    """Prepares attempts of one slot in a thread, in the order in which they were granted.

    Nothing here holds up the command that runs. An image that is missing on the node may take
    minutes to load.
    """

    def __init__(self, parts: SlotParts, first: AttemptId) -> None:
        self._parts = parts
        self._first = first
        self._thread: threading.Thread | None = None
        # Guards all below.
        self._changed = threading.Condition()
        self._is_closed = False
        self._is_busy = False
        # For how many attempts to ask, and how many may be held then.
        self._asks_for = 0
        self._most = 0
        # Held: granted, then being staged in, then prepared. The others are to be given back.
        self._granted: deque[AttemptId] = deque()
        self._staging: AttemptId | None = None
        self._prepared: deque[AttemptId] = deque()
        self._unwanted: deque[AttemptId] = deque()
        self._staged_in_s = 0.0

    def want(self, many: bool) -> None:
        """Have attempts ready for when the running command ends: one, or many. Waits for nothing.

        Many are asked for where the jobs are so short that a question for each takes longer.
        """
        with self._changed:
            many = many and self._staged_in_s < _QUICK_S
            self._most = _FEW + _MANY if many else max(1, self._held())
            if self._held() <= (_FEW if many else 0):
                self._asks_for = _MANY if many else 1
            if self._thread is None:
                name = f"ahead-{self._first.id}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def give_up(self, keep: int) -> None:
        """Give back all but the first `keep`, also of an answer to come. Waits for nothing."""
        with self._changed:
            self._asks_for = min(self._asks_for, keep)
            self._most = keep
            self._trim()
            self._changed.notify_all()

    def take(self) -> AttemptId | None:
        """Return the next attempt, None if there is none. Waits for one that is on its way.

        Raises
        ------
        StoppedError
            The agent is being stopped.
        """
        while True:
            with self._changed:
                if self._prepared:
                    # The thread may prepare another one now.
                    self._changed.notify_all()
                    return self._prepared.popleft()
                if not self._is_working():
                    return None
                if self._parts.stop.is_set():
                    raise StoppedError
                late: list[AttemptId] = []
                if not self._changed.wait(_LATE_S) and self._is_busy:
                    # Others may run them before this stage-in is over.
                    late = [*self._unwanted, *self._granted]
                    self._unwanted.clear()
                    self._granted.clear()
            for attempt in late:
                self._return(attempt)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _held(self) -> int:
        return len(self._granted) + (self._staging is not None) + len(self._prepared)

    def _is_working(self) -> bool:
        return self._is_busy or bool(self._asks_for or self._granted or self._unwanted)

    def _trim(self) -> None:
        """Hold no more than may be held: those go that would run last."""
        while self._granted and self._held() > self._most:
            self._unwanted.append(self._granted.pop())
        if self._staging is not None and self._held() > self._most:
            # Stored first: an agent after this one gives it back too. Its outcome is `stopped` now.
            with contextlib.suppress(OSError):
                self._parts.store.update(self._staging, sync=False, is_returning=True)
            self._parts.stage_in.abort(self._staging)
            self._staging = None
        while len(self._prepared) > self._most:
            self._unwanted.append(self._prepared.pop())

    def _run(self) -> None:
        while (work := self._next_work()) is not None:
            try:
                work()
            except StoppedError:
                return
            except Exception:
                log.exception("work ahead of a slot failed", extra=self._first.log_fields)
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def _next_work(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._is_closed:
                work: Callable[[], None] | None = None
                if self._unwanted:
                    work = partial(self._return, self._unwanted.popleft())
                elif self._granted and (not self._prepared or self._is_cheap(self._granted[0])):
                    self._staging = self._granted.popleft()
                    work = partial(self._prepare, self._staging)
                elif self._asks_for:
                    work, self._asks_for = partial(self._ask, self._asks_for), 0
                if work is not None:
                    self._is_busy = True
                    return work
                self._changed.wait()
        return None

    def _is_cheap(self, attempt: AttemptId) -> bool:
        record, state = self._parts.records.get(self._first), self._parts.store.get(attempt)
        if record is None or state is None:
            return False
        return self._parts.container_of(state).has_ready(record, state)

    def _ask(self, count: int) -> None:
        granted = self._parts.granting.next(self._first, ahead=count - 1)
        with self._changed:
            self._granted.extend(granted)
            self._trim()

    def _prepare(self, attempt: AttemptId) -> None:
        began = time.monotonic()
        try:
            self._parts.prepare(self._first, attempt)
        except (DockerUnavailableError, DockerRefusedError, GoneError) as error:
            # Starting it finds out whether that lasts.
            log.warning("not prepared ahead: %s", error, extra=attempt.log_fields)
        finally:
            with self._changed:
                self._staged_in_s = time.monotonic() - began
                is_wanted, self._staging = self._staging is not None, None
                (self._prepared if is_wanted else self._unwanted).append(attempt)

    def _return(self, attempt: AttemptId) -> None:
        is_returned = False
        try:
            is_returned = self._parts.give_back(attempt)
        finally:
            if not is_returned:
                # The slot ends it.
                with self._changed:
                    self._prepared.append(attempt)
