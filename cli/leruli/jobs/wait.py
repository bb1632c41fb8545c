"""Waiting until jobs are over: by the queue's events, or by polling a queue that has none.

The states are read once, after a cursor was asked for. So no end is missed in between. Then one
call at a time waits for events, however many jobs there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar, Union

from leruli.cancellation import CheckCancelled, never_cancelled
from leruli.errors import LeruliError, OldCursorError, ServiceError, UnknownCallError
from leruli.service.queue_client import BULK_LIMIT, JobState, QueueClient
from leruli.service.states import FINAL

#: Jobs that are over, by id: their state, or why it is unknown.
Ended = Mapping[str, Union[JobState, LeruliError]]

# Less than the minute after which proxies often end a call.
_WAIT_S, _SHORTEST_WAIT_S = 45.0, 5.0
# Up to so many jobs are named in the call. Of more the queue answers all events of the user.
_MOST_NAMED = 100
# Pause after an answer, for each job that is not over. So the ends of many jobs share an answer.
_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 10.0
# The states are read again now and then: events stay away while the queue's database has a very old
# transaction, and an admin who waits for another user's job gets none.
_LOOK_S, _LONGEST_LOOK_S, _LOOK_PER_CALL_S = 5.0, 60.0, 12.0
# Between two polls of a queue without events.
_POLL_S, _LONGEST_POLL_S = 1.0, 30.0
# After the queue did not answer, beside the pauses of the call itself.
_AWAY_S = 2.0

_Answer = TypeVar("_Answer")


class Wait:
    """Waits for jobs.

    Parameters
    ----------
    service
        Makes the calls.
    jobids
        The jobs.
    timeout_s
        How long to wait; None: as long as it takes.
    is_eager
        Whether each end is wanted at once, also of many jobs.
    check_cancelled
        Raises StoppedError once nobody waits any more. It is called before each call of the queue.
    changed
        Takes each job whose state was read and that is not over, and the state. With it the queue
        is asked for all changes, and not for ends only.
    """

    def __init__(
        self,
        service: QueueClient,
        jobids: Iterable[str],
        *,
        timeout_s: float | None = None,
        is_eager: bool = False,
        check_cancelled: CheckCancelled = never_cancelled,
        changed: Callable[[str, JobState], None] | None = None,
    ) -> None:
        self._service = service
        self._check_cancelled = check_cancelled
        self._changed = changed
        #: Jobs that are not over.
        self.pending = dict.fromkeys(jobids)
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._is_eager = is_eager
        self._has_answered = False
        self._wait_s = _WAIT_S
        self._look_s = _LOOK_S

    @property
    def is_time_over(self) -> bool:
        """Whether the time to wait has passed."""
        return self._until is not None and time.monotonic() >= self._until

    def ends(self) -> Iterator[Ended]:
        """Yield jobs as they end, several at once, until all are over or the time has passed.

        A queue that does not answer for a while is asked again.

        Raises
        ------
        ServiceError
            The very first call failed.
        SecretRefusedError
            The secret is not accepted (any more).
        """
        while self.pending:
            try:
                cursor = self._persist(lambda: self._service.events(None).cursor)
            except UnknownCallError:
                yield from self._poll()
                return
            if cursor is None:
                return
            yield from self._look()
            try:
                yield from self._follow(cursor)
            except OldCursorError:
                continue
            return

    def _follow(self, cursor: str) -> Iterator[Ended]:
        looked = time.monotonic()
        early = 0
        while self.pending and not self.is_time_over:
            began = time.monotonic()
            if began - looked >= self._next_look():
                yield from self._look()
                looked = began
                self._look_s = min(2 * self._look_s, _LONGEST_LOOK_S)
                continue
            named: dict[str, list[str]] = {}
            if len(self.pending) <= _MOST_NAMED:
                named["jobids"] = list(self.pending)
            if self._changed is None:
                named["states"] = sorted(FINAL)
            wait_s = max(0.0, min(self._wait_s, self._left(), looked + self._next_look() - began))
            page = self._persist(
                lambda at=cursor, more=named, wait_s=wait_s: self._service.events(  # type: ignore[misc]
                    at, wait_s, **more
                )
            )
            if page is None:
                return
            cursor = page.cursor
            yield self._note(
                {
                    event["jobid"]: JobState(event["state"], event.get("reason"))
                    for event in page.events
                }
            )
            if page.events or page.more:
                early = 0
                if not self._is_eager and not page.more:
                    self._sleep(min(_PAUSE_S * len(self.pending), _LONGEST_PAUSE_S))
            elif time.monotonic() - began < wait_s / 2:
                # Too many calls wait there already.
                early += 1
                self._sleep(min(0.5 * 2**early, _LONGEST_PAUSE_S))

    def _poll(self) -> Iterator[Ended]:
        pause_s = _POLL_S
        while True:
            before = len(self.pending)
            yield from self._look()
            if not self.pending or self.is_time_over:
                return
            pause_s = _POLL_S if len(self.pending) < before else min(1.5 * pause_s, _LONGEST_POLL_S)
            self._sleep(pause_s)

    def _look(self) -> Iterator[Ended]:
        """Read the states of all jobs that are not over."""
        asked = list(self.pending)
        for start in range(0, len(asked), BULK_LIMIT):
            some = asked[start : start + BULK_LIMIT]
            states = self._persist(lambda some=some: self._service.statuses(some))  # type: ignore[misc]
            if states is None:
                return
            yield self._note(dict(zip(some, states)))

    def _note(self, states: Ended) -> Ended:
        over = {
            jobid: state
            for jobid, state in states.items()
            if jobid in self.pending and (isinstance(state, LeruliError) or state.is_final)
        }
        for jobid in over:
            del self.pending[jobid]
        if self._changed is not None:
            for jobid, state in states.items():
                if jobid in self.pending and isinstance(state, JobState):
                    self._changed(jobid, state)
        return over

    def _persist(self, call: Callable[[], _Answer]) -> _Answer | None:
        """Make a call; again while the queue is away. None when the time is over."""
        while True:
            self._check_cancelled()
            try:
                answer = call()
            except UnknownCallError:
                raise
            except ServiceError:
                if not self._has_answered:
                    raise
                if self.is_time_over:
                    return None
                # A proxy may allow less time.
                self._wait_s = max(self._wait_s / 2, _SHORTEST_WAIT_S)
                self._sleep(_AWAY_S)
            else:
                self._has_answered = True
                return answer

    def _next_look(self) -> float:
        calls = -(-len(self.pending) // BULK_LIMIT)
        least = 0.0 if calls <= 1 else max(_LONGEST_LOOK_S, _LOOK_PER_CALL_S * calls)
        return max(self._look_s, least)

    def _left(self) -> float:
        return _WAIT_S if self._until is None else max(0.0, self._until - time.monotonic())

    def _sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self._left()))
