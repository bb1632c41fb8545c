"""Stage-out: how it ended, the output, the receipt, and then nothing is left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from leruli_node.attempts.cleanup import Cleanup
from leruli_node.attempts.leased_upload import LeasedUpload
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.settle import Settlement
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.container.own_containers import OwnContainers
from leruli_node.errors import StoppedError
from leruli_node.files.upload import Uploaded
from leruli_node.model import AttemptId, AttemptState, Decision
from leruli_node.retry import Backoff, retrying

log = logging.getLogger(__name__)

_FIRST_TRY = 10.0
_LONGEST_MESSAGE = 1000
# The service has its own sentence for these; ours goes into joberr.txt only.
_SAID_BY_THE_SERVICE = ("time_limit", "out_of_memory")


class StageOut:
    """Ends attempts; each step can be repeated after a crash."""

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
    ) -> None:
        self._store = store
        self._containers = containers
        self._settlement = settlement
        self._uploads = uploads
        self._receipts = receipts
        self._cleanup = cleanup
        self._stop = stop
        self._abort_stage_in = abort_stage_in

    def __call__(self, attempt: AttemptId, alloc: str) -> Answer:
        """End an attempt for its allocation; 0 also when it was never started here."""
        state = self._store.get(attempt)
        if state is not None and state.alloc != alloc:
            return Answer(0, "this attempt belongs to another allocation")
        self._abort_stage_in(attempt)
        self.finish(attempt)
        return Answer(0)

    def finish(self, attempt: AttemptId) -> None:
        """Take an attempt from whatever it is in to its end; nothing when it is not known.

        Raises StoppedError when the agent stops; the next one goes on from the state file.
        """

        def report(error: Exception) -> None:
            fields = attempt.log_fields
            log.error("stage-out failed unexpectedly; again", exc_info=error, extra=fields)

        retrying(
            lambda: self._finish(attempt),
            Exception,
            Backoff(self._stop),
            report,
            final=(StoppedError,),
        )

    def _finish(self, attempt: AttemptId) -> None:
        with self._store.work_lock(attempt):
            state = self._store.get(attempt)
            if state is None:
                return
            if self._receipts.has(attempt):
                self._cleanup.clean_up(attempt)
                return
            if state.decision is None:
                state = self._settlement.settle(attempt, state)
            decision = state.decision
            if decision is None:
                return
            uploaded: Uploaded | None = None
            if state.grant is not None and _wants_upload(state, decision):
                result = self._uploads.upload(attempt, state, state.grant.bucketid, decision)
                if result is None:
                    self._cleanup.clean_up(attempt)
                    return
                decision, uploaded = result
            self._receipts.spool(attempt, _receipt(state, decision, uploaded))
            self._cleanup.clean_up(attempt)
        log.info("ended", extra={**attempt.log_fields, "outcome": decision.outcome})
        self._receipts.announce(attempt, _FIRST_TRY)

    def requeue(self, attempt: AttemptId, message: str) -> None:
        """End an attempt without its output: the node is shut down and the job runs elsewhere."""
        with self._locked_at_once(attempt) as state:
            if state is None:
                return
            if not self._receipts.has(attempt):
                decision = Decision("stopped", message=message)
                self._receipts.spool(attempt, _receipt(state, decision, None))
            self._cleanup.clean_up(attempt)

    def drop(self, attempt: AttemptId) -> None:
        """End an attempt that was given to another node: nothing (more) of it is uploaded."""
        self._abort_stage_in(attempt)
        if self._uploads.withdraw(attempt):
            # Its thread, which is woken by this, holds the lock and cleans up.
            return
        with self._locked_at_once(attempt) as state:
            if state is not None:
                self._cleanup.clean_up(attempt)

    def settle(self, attempt: AttemptId) -> None:
        """Keep how an attempt ended and remove its container; the next agent uploads its output."""
        with self._locked_at_once(attempt) as state:
            if state is None:
                return
            try:
                if state.decision is None:
                    self._settlement.settle(attempt, state)
                self._containers.remove(attempt)
            except (DockerUnavailableError, DockerRefusedError, StoppedError) as error:
                why = type(error).__name__
                log.warning("a container stays: %s", why, extra=attempt.log_fields)

    @contextmanager
    def _locked_at_once(self, attempt: AttemptId) -> Iterator[AttemptState | None]:
        """Hold the attempt's lock and give its state; None if it is gone or being worked on."""
        lock = self._store.work_lock(attempt)
        if not lock.acquire(timeout=1.0):
            yield None
            return
        try:
            yield self._store.get(attempt)
        finally:
            lock.release()


def _wants_upload(state: AttemptState, decision: Decision) -> bool:
    # Without a container there is only an explanation to bring, and none where the job is going
    # to be tried again.
    return state.ran or decision.outcome not in ("node_trouble", "stopped")


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
        "uploadedbytes": uploaded.bytes if uploaded is not None else None,
        "uploadedfiles": uploaded.files if uploaded is not None else None,
    }
