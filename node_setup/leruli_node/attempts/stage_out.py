"""Stage-out: the decision, the upload of the output, the receipt, the clean-up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from leruli_node.attempts.cleanup import Cleanup
from leruli_node.attempts.leased_upload import LeasedUpload
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.settle import Ended, Settlement
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.clock import boottime
from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.container.own_containers import OwnContainers
from leruli_node.errors import StoppedError
from leruli_node.files.upload import Uploaded
from leruli_node.model import AttemptId, AttemptState, Decision, boot_id
from leruli_node.outcomes import Outcome
from leruli_node.retry import Backoff, retrying

log = logging.getLogger(__name__)

_FIRST_TRY = 10.0
_LONGEST_MESSAGE = 1000
# The service has its own sentence for these outcomes; ours goes into joberr.txt only.
_SAID_BY_THE_SERVICE = (Outcome.TIME_LIMIT, Outcome.OUT_OF_MEMORY)


class StageOut:
    """Ends attempts. Each step can be repeated after a crash."""

    def __init__(
        self,
        store: AttemptStore,
        containers: OwnContainers,
        settlement: Settlement,
        uploads: LeasedUpload,
        receipts: Receipts,
        cleanup: Cleanup,
        stop: threading.Event,
        abort_stage_in: Callable[[AttemptId], None],
        end_live_output: Callable[[AttemptId], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._containers = containers
        self._settlement = settlement
        self._uploads = uploads
        self._receipts = receipts
        self._cleanup = cleanup
        self._stop = stop
        self._abort_stage_in = abort_stage_in
        self._end_live_output = end_live_output

    def __call__(self, attempt: AttemptId, alloc: str) -> Answer:
        """End an attempt for its allocation.

        The code is 0 also if the attempt never started here.
        """
        state = self._store.get(attempt)
        if state is not None and state.alloc != alloc:
            return Answer(0, "this attempt belongs to another allocation")
        self._abort_stage_in(attempt)
        self.finish(attempt)
        return Answer(0)

    def decide(self, attempt: AttemptId) -> Outcome | None:
        """Decide how an attempt ended, and return its outcome; None for an unknown attempt.

        Raises
        ------
        StoppedError
            The agent is being stopped. The next one goes on from the state file.
        """

        def decided() -> Outcome | None:
            with self._store.work_lock(attempt):
                state = self._store.get(attempt)
                if state is not None and state.decision is None:
                    state = self._settlement.settle(attempt, state)
                decision = state.decision if state is not None else None
                return decision.outcome if decision is not None else None

        return self._until_done(attempt, decided)

    def finish(
        self,
        attempt: AttemptId,
        receipt_within: float | None = _FIRST_TRY,
        ended: Ended | None = None,
    ) -> Outcome | None:
        """End an attempt, whichever phase it is in. Does nothing for an unknown attempt.

        Wait up to `receipt_within` seconds until the service has the receipt. None: the receipt
        goes with the next call of the node's slots, and nothing waits for it. `ended` is how the
        command ended, if that is known.

        Returns
        -------
        The outcome in the receipt; None if this call sent none.

        Raises
        ------
        StoppedError
            The agent is being stopped. The next one goes on from the state file.
        """
        outcome = self._until_done(
            attempt, lambda: self._finish(attempt, ended, receipt_within is None)
        )
        if outcome is not None and receipt_within is not None:
            self._receipts.announce(attempt, receipt_within)
        return outcome

    def _until_done(self, attempt: AttemptId, step: Callable[[], Outcome | None]) -> Outcome | None:
        def report(error: Exception) -> None:
            fields = attempt.log_fields
            log.error("stage-out failed unexpectedly; again", exc_info=error, extra=fields)

        return retrying(
            step,
            Exception,
            Backoff(self._stop),
            report,
            final=(StoppedError,),
        )

    def _finish(self, attempt: AttemptId, ended: Ended | None, is_gathered: bool) -> Outcome | None:
        with self._store.work_lock(attempt):
            state = self._store.get(attempt)
            if state is None:
                return None
            if self._receipts.has(attempt):
                self._cleanup.clean_up(attempt)
                self._receipts.gathered.ready(attempt)
                return None
            if state.decision is None:
                state = self._settlement.settle(attempt, state, ended)
            decision = state.decision
            if decision is None:
                return None
            uploaded: Uploaded | None = None
            if state.grant is not None and _wants_upload(state, decision):
                result = self._uploads.upload(attempt, state, state.grant.bucketid, decision)
                if result is None:
                    self._cleanup.clean_up(attempt)
                    return None
                decision, uploaded = result
                # Not before: a follower goes on with the final logs.
                self._end_live_output(attempt)
            receipt = _receipt(state, decision, uploaded)
            self._receipts.spool(attempt, receipt, is_gathered)
            self._cleanup.clean_up(attempt)
            if is_gathered:
                # Only now: an agent that finds the state of an attempt finds its receipt too.
                self._receipts.gathered.ready(attempt)
        log.info("ended", extra={**attempt.log_fields, "outcome": decision.outcome})
        return decision.outcome

    def requeue(self, attempt: AttemptId, message: str) -> None:
        """End an attempt without its output.

        The node is being shut down, and another node runs the job.
        """
        with self._locked_at_once(attempt) as state:
            if state is None:
                return
            if not self._receipts.has(attempt):
                decision = Decision(Outcome.STOPPED, message=message)
                self._receipts.spool(attempt, _receipt(state, decision, None))
            self._cleanup.clean_up(attempt)

    def drop(self, attempt: AttemptId) -> None:
        """End an attempt that another node has now. Nothing more of it is uploaded."""
        self._abort_stage_in(attempt)
        if self._uploads.withdraw(attempt):
            # The upload's thread holds the lock. It wakes up and cleans up.
            return
        with self._locked_at_once(attempt) as state:
            if state is not None:
                self._cleanup.clean_up(attempt)

    def settle(self, attempt: AttemptId) -> None:
        """Store how an attempt ended and remove its container.

        The next agent uploads its output.
        """
        with self._locked_at_once(attempt) as state:
            if state is None:
                return
            try:
                if state.decision is None:
                    self._settlement.settle(attempt, state)
                if not state.in_shared:
                    self._containers.remove(attempt)
            except (DockerUnavailableError, DockerRefusedError, StoppedError) as error:
                why = type(error).__name__
                log.warning("a container is not removed: %s", why, extra=attempt.log_fields)

    @contextmanager
    def _locked_at_once(self, attempt: AttemptId) -> Iterator[AttemptState | None]:
        """Hold the attempt's lock and yield its state.

        Yields None if the attempt is gone, or if another thread works on it for more than 1 s.
        """
        lock = self._store.work_lock(attempt)
        if not lock.acquire(timeout=1.0):
            yield None
            return
        try:
            yield self._store.get(attempt)
        finally:
            lock.release()


def _wants_upload(state: AttemptState, decision: Decision) -> bool:
    # Without a run there is only an explanation to upload, and none if the job will be retried.
    return state.ran or decision.outcome not in (Outcome.NODE_TROUBLE, Outcome.STOPPED)


def _receipt(state: AttemptState, decision: Decision, uploaded: Uploaded | None) -> dict[str, Any]:
    summary = uploaded.summary if uploaded is not None else ""
    said = decision.message if decision.outcome not in _SAID_BY_THE_SERVICE else None
    message = "; ".join(sentence for sentence in (said, summary) if sentence)
    return {
        "outcome": decision.outcome,
        "exitcode": decision.exitcode,
        "message": message[:_LONGEST_MESSAGE] or None,
        "wallseconds": decision.wallseconds,
        "cpuseconds": decision.cpuseconds,
        "peakmemorymb": decision.peakmemorymb or state.peak_memory_mb,
        "peaknocachemb": decision.peaknocachemb or state.peak_no_cache_mb,
        "diskmb": _disk_mb(state, uploaded),
        "imageseconds": _seconds(state.image_seconds),
        "inputseconds": _seconds(state.input_seconds),
        "outputseconds": _seconds(_since_the_end(state) if uploaded is not None else None),
        "uploadedbytes": uploaded.bytes if uploaded is not None else None,
        "uploadedfiles": uploaded.files if uploaded is not None else None,
    }


def _disk_mb(state: AttemptState, uploaded: Uploaded | None) -> int | None:
    """Return the most that was measured, while it ran and at its end."""
    at_end = -(-uploaded.disk_bytes // 2**20) if uploaded is not None else 0
    return max(at_end, state.peak_disk_mb or 0) or None


def _since_the_end(state: AttemptState) -> float | None:
    decided_at = state.decided_boottime
    if decided_at is None or state.boot_id != boot_id():
        return None
    return boottime() - decided_at


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(max(0.0, value), 3)
