"""The life of one slot, from the end of its first attempt's command to the end of Nomad's task.

One thread runs the attempts of a slot, one after the other. What an attempt still needs when its
command is over (decision, upload, receipt, clean-up) is done beside the next one's run.

An agent that is started again finds the attempts of the slot by their state files. It first lets
those end whose command began.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.errors import StoppedError
from leruli_node.model import AttemptId, AttemptState
from leruli_node.outcomes import OWN_ENDS, Outcome
from leruli_node.retry import Backoff, retrying
from leruli_node.slots.ahead import Ahead
from leruli_node.slots.container import GoneError
from leruli_node.slots.parts import SlotParts
from leruli_node.slots.running import Running
from leruli_node.slots.workers import Workers

log = logging.getLogger(__name__)

# Attempts of one slot that are uploaded at the same time.
_UPLOADS_BESIDE = 4
# A job that runs longer (seconds) is not short: nothing is prepared beside it.
_SHORT_S = 3.0
# After a shorter one (seconds) in a shared container, several attempts are prepared.
_VERY_SHORT_S = 0.3
# Seconds between two looks at a command that runs.
_TICK_S = 1.0
# Seconds between two node-reports while Nomad ends a slot whose command runs.
_REPORT_S = 2.0
# Seconds that the end of a slot waits for the service to take its receipts.
_RECEIPTS_S = 10.0
_RECEIPTS = 64


class Slot:
    """One slot that runs further attempts in this process."""

    def __init__(self, parts: SlotParts, first: AttemptId) -> None:
        self._parts = parts
        self._first = first
        self._beside = Workers(f"finish-{first.id}", _UPLOADS_BESIDE, parts.stop)
        self._ahead = Ahead(parts, first)
        # Whether the attempt before was short: then the next one is prepared while this one runs.
        self._is_short = True
        # Whether it was so short that several are prepared.
        self._is_very_short = False
        # Begin nothing further: the node, or what was noted before, forbids it.
        self._begins_none = threading.Event()
        # Guards the next.
        self._lock = threading.Lock()
        self._running: Running | None = None
        # Keys of attempts that the service wants cancelled.
        self._cancelled: set[str] = set()
        # The latest attempts, for whose receipts the end of the slot waits.
        self._finished: deque[AttemptId] = deque(maxlen=_RECEIPTS)
        # Keys of attempts whose command an agent before this one started.
        self._begun: set[str] = set()
        # When (monotonic) this slot asked for a node-report.
        self._reported_at = 0.0
        self.over = threading.Event()

    def start(self) -> None:
        """Run the slot in a thread of its own."""
        threading.Thread(target=self.run, name=f"slot-{self._first.id}", daemon=True).start()

    def run(self) -> None:
        """Run attempts until the slot is over. Raises nothing."""

        def report(error: Exception) -> None:
            # What runs must end before Nomad gives its cores to others.
            self._begins_none.set()
            log.error("a slot failed; again", exc_info=error, extra=self._first.log_fields)

        try:
            retrying(self._run, Exception, Backoff(self._parts.stop), report, final=(StoppedError,))
            self.over.set()
        except StoppedError:
            return
        finally:
            self._ahead.close()
            self._beside.close()

    def end(self) -> None:
        """End the slot: begin nothing further, and end what runs if the record says so."""
        self._begins_none.set()
        self._enforce()

    def cancel(self, attempt: AttemptId) -> None:
        """End the command of this attempt alone, or do not begin it."""
        self._cancelled.add(attempt.key)
        self._enforce()

    def drop(self, attempt: AttemptId) -> None:
        """Kill the command of an attempt that is not this node's any more."""
        with self._lock:
            running = self._running
        if running is not None and running.attempt == attempt:
            running.kill()

    def _run(self) -> None:
        parts, first = self._parts, self._first
        self._settle_first()
        while self._ahead.take() is not None:
            # After an error of ours: their state files are found again.
            pass
        waiting = self._left_by_an_agent_before()
        while (attempt := self._next(waiting)) is not None:
            self._go_through(attempt)
        # The question that an agent before this one sent may have granted attempts.
        while parts.granting.has_open_question(first):
            for attempt in parts.granting.next(first):
                self._return_or_finish(attempt)
        parts.close(first)
        self._beside.wait()
        parts.receipts.wait_tried(self._finished, _RECEIPTS_S)
        parts.records.remove(first)
        parts.granting.forget(first)

    def _next(self, waiting: list[AttemptId]) -> AttemptId | None:
        """Return the next attempt: one that waits, one that was prepared, or one by a question."""
        if not waiting:
            prepared = self._ahead.take()
            if prepared is not None:
                return prepared
            if not self._is_over():
                waiting += self._parts.granting.next(self._first)
        return waiting.pop(0) if waiting else None

    def _settle_first(self) -> None:
        """Decide how the first attempt ended. An agent before this one may have finished it."""
        if self._parts.store.get(self._first) is None:
            return
        if self._parts.stage_out.decide(self._first) not in OWN_ENDS:
            self._begins_none.set()
        self._finish(self._first)

    def _left_by_an_agent_before(self) -> list[AttemptId]:
        """Return the attempts of the slot: first those that are over, then the one that runs."""
        record = self._parts.records.get(self._first)
        left = []
        for state in self._parts.attempts_of(self._first):
            has_begun = record is not None and self._parts.container_of(state).has_begun(
                record, state.id
            )
            if has_begun:
                self._begun.add(state.id.key)
            left.append((not _is_decided(state), not has_begun, state.id.key, state.id))
        return [entry[-1] for entry in sorted(left)]

    def _go_through(self, attempt: AttemptId) -> None:
        """Take one attempt to the end of its command."""
        parts, state = self._parts, self._parts.store.get(attempt)
        if state is None:
            return
        if state.is_returning:
            # An agent before this one may have ended its stage-in.
            self._return_or_finish(attempt)
            return
        if not _is_decided(state):
            has_begun = attempt.key in self._begun
            if not has_begun and (self._is_over() or attempt.key in self._cancelled):
                self._return_or_finish(attempt)
                return
            may_have_begun = has_begun
            try:
                if has_begun or parts.prepare(self._first, attempt):
                    may_have_begun = True
                    self._run_command(parts.start(self._first, attempt, not has_begun), has_begun)
            except GoneError:
                # Dropped, or the node is shutting down.
                self._return_or_finish(attempt)
                return
            except DockerRefusedError as error:
                log.warning("a container of a slot: %s", error, extra=attempt.log_fields)
            except DockerUnavailableError as error:
                log.warning("Docker is away: %s", error, extra=attempt.log_fields)
                self._begins_none.set()
                if not may_have_begun:
                    # A restart of Docker costs the job nothing.
                    self._return_or_finish(attempt)
                    return
        self._finish(attempt)

    def _run_command(self, running: Running, has_begun: bool) -> None:
        """Wait for the end of a command that was started."""
        began = time.monotonic()
        with self._lock:
            self._running = running
        try:
            self._enforce()
            if self._is_short and not has_begun and not self._is_over():
                self._ahead.want(many=self._is_very_short)
            is_told = False
            while not self._is_ended(running):
                if not is_told:
                    # A short job is over before: its receipt says that it ran.
                    self._parts.tell_running(running.attempt)
                    is_told = True
                self._enforce()
                self._report_if_stopped()
                is_long = time.monotonic() - began >= _SHORT_S
                self._ahead.give_up(keep=0 if is_long or self._is_over() else 1)
        finally:
            with self._lock:
                self._running = None
        took, state = time.monotonic() - began, self._parts.store.get(running.attempt)
        self._is_short = took < _SHORT_S
        self._is_very_short = took < _VERY_SHORT_S and state is not None and state.in_shared

    def _is_ended(self, running: Running) -> bool:
        """Wait for a moment. Return whether the command is over. Docker may be away meanwhile."""
        if self._parts.stop.is_set():
            raise StoppedError
        try:
            return running.wait(_TICK_S)
        except (DockerUnavailableError, DockerRefusedError):
            # A dockerd that ends refuses what it was asked for before.
            if self._parts.stop.wait(_TICK_S):
                raise StoppedError from None
            return False

    def _enforce(self) -> None:
        """End the command that runs where it was cancelled, or its slot is ended with it."""
        with self._lock:
            running = self._running
        if running is None:
            return
        record = self._parts.records.get(self._first)
        if running.attempt.key in self._cancelled or (record is not None and record.ends_running):
            running.end()

    def _report_if_stopped(self) -> None:
        """Have the node report soon if Nomad ends this slot for another attempt of it.

        Nomad says nothing of a second cancellation in the slot. The answer to a report does.
        """
        record, now = self._parts.records.get(self._first), time.monotonic()
        if record is None or not record.stopped or record.ends_running:
            return
        if now - self._reported_at >= _REPORT_S:
            self._reported_at = now
            self._parts.report_soon()

    def _return_or_finish(self, attempt: AttemptId) -> None:
        if not self._parts.give_back(attempt):
            self._finish(attempt)

    def _finish(self, attempt: AttemptId) -> None:
        """Decide, upload and send the receipt beside the next attempt's run."""
        self._finished.append(attempt)
        self._beside.do(lambda: self._finish_beside(attempt))

    def _finish_beside(self, attempt: AttemptId) -> None:
        ended = self._parts.ended(self._first, attempt) if attempt != self._first else None
        outcome = self._parts.stage_out.finish(attempt, receipt_within=None, ended=ended)
        was_cancelled = attempt.key in self._cancelled
        if outcome is Outcome.NODE_TROUBLE or (outcome is Outcome.STOPPED and not was_cancelled):
            self._begins_none.set()

    def _is_over(self) -> bool:
        record = self._parts.records.get(self._first)
        return (
            self._begins_none.is_set()
            or record is None
            or record.stopped
            or self._parts.draining.is_set()
            or self._parts.stop.is_set()
        )


def _is_decided(state: AttemptState) -> bool:
    return state.decision is not None or state.problem_outcome is not None
