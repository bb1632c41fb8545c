"""The live output of all followed attempts of this node, by two threads while there are any."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass

from leruli_node.attempts.store import AttemptStore
from leruli_node.live.followed import FollowedAttempt
from leruli_node.live.guard import RemovalGuard
from leruli_node.live.live_objects import remove_live_objects
from leruli_node.live.places import Places
from leruli_node.model import AttemptId
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import NotFoundError

log = logging.getLogger(__name__)

# More would slow the node's jobs: each object costs the agent a millisecond of CPU.
_THREADS = 2
# Seconds between two steps of an attempt; longer for more attempts than the second number.
_PERIOD_S, _LONGEST_PERIOD_S, _MANY = 1.0, 2.0, 50
# Seconds for which the end of a job waits until its live objects are gone.
_REMOVED_IN_S = 5.0
# Pauses (s) before each try to remove them.
_TRIES_AFTER_S = (0.0, 1.0, 3.0)


@dataclass
class _Entry:
    followed: FollowedAttempt
    due: float = 0.0
    # Whether its state was there once. The service may name an attempt whose grant is on its way.
    was_known: bool = False
    is_busy: bool = False
    is_over: bool = False


class LiveOutput:
    """Sends the live output of followed attempts. Safe for several threads.

    Parameters
    ----------
    store, objects, places
        Where attempts, buckets and logs are.
    stop
        Ends the threads.
    """

    def __init__(
        self, store: AttemptStore, objects: ObjectStore, places: Places, stop: threading.Event
    ) -> None:
        self._store = store
        self._objects = objects
        self._places = places
        self._stop = stop
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        # The keys of attempts whose live objects are gone, or going.
        self._ended: set[str] = set()
        self._threads = 0
        self._next_look = 0.0

    def follow(self, attempts: Collection[AttemptId]) -> None:
        """Follow these attempts of this node, and no others. Waits for nothing."""
        with self._changed:
            self._ended = {key for key in self._ended if self._store.has(key)}
            named = {one.key: one for one in attempts if one.key not in self._ended}
            for key in set(self._entries) - set(named):
                self._leave(key)
            for key, attempt in named.items():
                entry = self._entries.get(key)
                if entry is not None:
                    entry.followed.guard.name()
                    continue
                self._entries[key] = _Entry(
                    FollowedAttempt(attempt, self._store, self._objects, self._places)
                )
            while self._threads < min(_THREADS, len(self._entries)):
                # Counted first: a thread that ends counts itself out.
                self._threads += 1
                try:
                    threading.Thread(target=self._run, name="live", daemon=True).start()
                except RuntimeError:  # no more threads now; the next reply tries again
                    self._threads -= 1
                    break
            self._changed.notify_all()

    def end(self, attempt: AttemptId) -> None:
        """Remove the live objects of an attempt whose output is in the bucket.

        Waits for some seconds at most and raises nothing: the job is over, whatever happens.
        """
        with self._changed:
            self._ended.add(attempt.key)
            entry = self._leave(attempt.key)
        state = self._store.get(attempt)
        if state is None or state.grant is None or not state.has_live_output:
            return
        removal = threading.Thread(
            target=self._remove,
            args=(attempt, state.grant.bucketid, entry),
            name="live-end",
            daemon=True,
        )
        try:
            removal.start()
        except RuntimeError:
            log.warning("live output is left in the bucket", extra=attempt.log_fields)
            return
        removal.join(_REMOVED_IN_S)

    def _remove(self, attempt: AttemptId, bucket: str, entry: _Entry | None) -> None:
        with self._changed:
            # A write that has begun would leave its object.
            while entry is not None and entry.is_busy and not self._stop.is_set():
                self._changed.wait(1.0)
            written = entry.followed.written() if entry is not None else set()
        for pause in _TRIES_AFTER_S:
            if self._stop.wait(pause):
                return
            try:
                remove_live_objects(self._objects, bucket, attempt, RemovalGuard(), written)
                return
            except NotFoundError:
                return
            except Exception as error:
                why = type(error).__name__
                log.warning("live output is not removed: %s", why, extra=attempt.log_fields)

    def _leave(self, key: str) -> _Entry | None:
        """Follow an attempt no longer. Its thread closes the logs if it is at work on them."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.is_over = True
            entry.followed.guard.close()
            if not entry.is_busy:
                entry.followed.close()
        return entry

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            began = time.monotonic()
            try:
                entry.followed.step()
            except Exception:
                log.exception("live output failed unexpectedly")
            with self._changed:
                entry.due = began + self._period()
                entry.is_busy = False
                if entry.is_over:
                    entry.followed.close()
                self._changed.notify_all()

    def _next(self) -> _Entry | None:
        """Wait for an entry that is due; None, and this thread ends, when there are none."""
        with self._changed:
            while not self._stop.is_set():
                self._leave_what_is_over()
                if self._threads > len(self._entries):
                    break
                idle = [one for one in self._entries.values() if not one.is_busy]
                first = min(idle, key=lambda one: one.due, default=None)
                wait = _PERIOD_S if first is None else first.due - time.monotonic()
                if first is not None and wait <= 0:
                    first.is_busy = True
                    return first
                self._changed.wait(min(wait, _PERIOD_S))
            self._threads -= 1
            return None

    def _leave_what_is_over(self) -> None:
        """Follow attempts no longer that are over. Not at each step: it looks at all of them."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _PERIOD_S
        for key, entry in list(self._entries.items()):
            is_known = self._store.get(entry.followed.attempt) is not None
            if entry.followed.guard.is_over or (entry.was_known and not is_known):
                self._leave(key)
            entry.was_known = is_known

    def _period(self) -> float:
        return min(_LONGEST_PERIOD_S, max(_PERIOD_S, len(self._entries) / _MANY))
