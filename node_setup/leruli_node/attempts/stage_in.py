"""Stage-in: the start grant, the image, the input."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Iterator
from typing import Any

from leruli_node.attempts.input_fetcher import InputFetcher
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.errors import AttemptError, StoppedError
from leruli_node.folders import Folders, make_ballast
from leruli_node.identity import NodeIdentity
from leruli_node.images.images import Images
from leruli_node.model import (
    ASKING,
    GRANTED,
    STAGED,
    AttemptId,
    AttemptState,
    StartGrant,
    boot_id,
)
from leruli_node.objects.store_errors import StoreRefusedError
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.objects.upload_lease import Held, HeldLeases, boot_time
from leruli_node.outcomes import Outcome
from leruli_node.retry import AnyEvent, Backoff, Stop
from leruli_node.service.service_api import (
    RefusedError,
    RejectedError,
    ServiceApi,
    StaleError,
    UnreachableError,
)

log = logging.getLogger(__name__)

# Exit codes of stage-in. The service learns the reason from the receipt.
DROPPED = 3
FAILED = 4
SHUTTING_DOWN = 75


class StageIn:
    """Prepares attempts for their containers."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        identity: NodeIdentity,
        api: ServiceApi,
        images: Images,
        inputs: InputFetcher,
        watch: StoreWatch,
        retry_for_s: float,
        stop: threading.Event,
        draining: threading.Event,
        leases: HeldLeases,
    ) -> None:
        self._folders = folders
        self._store = store
        self._identity = identity
        self._api = api
        self._images = images
        self._inputs = inputs
        self._watch = watch
        self._retry_for_s = retry_for_s
        self._stop = stop
        self._draining = draining
        self._leases = leases
        self._aborts: dict[str, threading.Event] = {}

    def abort(self, attempt: AttemptId) -> None:
        """End a running stage-in of the attempt, if there is one."""
        event = self._aborts.get(attempt.key)
        if event is not None:
            event.set()

    def __call__(self, attempt: AttemptId, alloc: str) -> Answer:
        """Prepare an attempt for its container. The answer's code is 0 if the container may start.

        The same allocation can ask again, for instance after a restart of the agent.
        """
        if self._draining.is_set():
            return Answer(SHUTTING_DOWN, "this node is shutting down")
        with self._store.work_lock(attempt):
            abort = self._aborts[attempt.key] = threading.Event()
            try:
                return self._stage(attempt, alloc, AnyEvent(self._stop, abort))
            except StoppedError:
                if self._stop.is_set():
                    raise
                self._note(attempt, AttemptError(Outcome.STOPPED, "the job was stopped early"))
                return Answer(FAILED, "stopped")
            except Exception:
                # A task that asked again would fail in the same way, without end.
                log.exception("stage-in failed unexpectedly", extra=attempt.log_fields)
                trouble = AttemptError(Outcome.NODE_TROUBLE, "the node could not prepare the job")
                # This may fail too. Then the service sees that the allocation failed.
                with contextlib.suppress(OSError):
                    self._note(attempt, trouble)
                return Answer(FAILED, trouble.message)
            finally:
                self._aborts.pop(attempt.key, None)

    def _stage(self, attempt: AttemptId, alloc: str, stop: Stop) -> Answer:
        state = self._store.get(attempt)
        if state is not None and state.alloc != alloc:
            log.warning("a second allocation of an attempt is refused", extra=attempt.log_fields)
            return Answer(DROPPED, "this attempt already runs in another allocation")
        if state is not None and state.decision is not None:
            # Its output exists and is not uploaded yet.
            return Answer(FAILED, "this attempt has ended already")
        if state is not None and state.phase == STAGED:
            return Answer(0)
        if state is not None and state.problem_outcome is not None:
            return Answer(FAILED, state.problem_message or "")
        if (state is None or state.grant is None) and self._watch.trouble:
            # Without a start grant this costs the job no attempt.
            if state is not None:
                self._store.remove(attempt)
            return Answer(DROPPED, self._watch.trouble)
        if state is None:
            # Stored before attempt-start is sent: the service may grant the start, and the answer
            # may be lost with the agent. The same startkey gets the same answer.
            state = AttemptState(
                job=attempt.job,
                attempt=attempt.attempt,
                alloc=alloc,
                startkey=secrets.token_urlsafe(24),
                phase=ASKING,
                boot_id=boot_id(),
                marks_objects=True,
            )
            self._store.create(state)
        try:
            if state.grant is None and not make_ballast(self._folders.root):
                raise AttemptError(Outcome.NODE_TROUBLE, "the node's disk is full")
            grant = state.grant or self._request_grant(attempt, state.startkey, stop)
            if grant is None:
                self._store.remove(attempt)
                return Answer(DROPPED, "the service does not need this attempt any more")
            # A further attempt follows others within milliseconds, mostly of the same image.
            if state.slot is None or not self._images.is_known(
                grant.code, grant.version, grant.image
            ):
                with self._timed(attempt, "image_seconds"):
                    self._fetch_image(grant, stop)
            with self._timed(attempt, "input_seconds"):
                self._inputs.fetch(attempt, grant, stop)
        except AttemptError as problem:
            self._note(attempt, problem)
            return Answer(FAILED, problem.message)
        except OSError as error:
            why = error.strerror or type(error).__name__
            trouble = AttemptError(Outcome.NODE_TROUBLE, f"the node's disk failed: {why}")
            self._note(attempt, trouble)
            return Answer(FAILED, trouble.message)
        is_further = state.slot is not None
        self._store.update(attempt, sync=not is_further, phase=STAGED, boot_id=boot_id())
        log.log(
            logging.DEBUG if is_further else logging.INFO, "staged in", extra=attempt.log_fields
        )
        return Answer(0)

    def _request_grant(self, attempt: AttemptId, startkey: str, stop: Stop) -> StartGrant | None:
        """Ask for the start grant. Return None if the attempt must be dropped."""
        asked_at = boot_time()
        try:
            answer = self._api.until_answered(
                self._api.start, Backoff(stop, self._retry_for_s), attempt, startkey
            )
            grant = StartGrant.parse(answer)
            silence = answer.get("silenceseconds")
            if silence is not None:  # an older service gives no lease with the grant
                self._leases.put(attempt.key, Held(asked_at, float(silence)))
        except (StaleError, RefusedError) as error:
            log.info("not started: %s", error, extra=attempt.log_fields)
            return None
        except UnreachableError as error:
            log.error("no start grant: %s", error, extra=attempt.log_fields)
            raise AttemptError(
                Outcome.NODE_TROUBLE, "the node could not reach the service to start the job"
            ) from None
        except (RejectedError, KeyError, TypeError, ValueError) as error:
            log.error("attempt-start was not understood: %s", error, extra=attempt.log_fields)
            raise AttemptError(
                Outcome.NODE_TROUBLE, "the node and the service do not understand each other"
            ) from None
        self._store.update(attempt, phase=GRANTED, grant=grant)
        return grant

    def _prefix(self, stop: Stop) -> str:
        """Return the prefix of image names.

        Wait for the join if an earlier release did not store it.
        """
        while (prefix := self._identity.image_prefix) is None:
            if stop.wait(0.2):
                raise StoppedError
        return prefix

    def _fetch_image(self, grant: StartGrant, stop: Stop) -> None:
        try:
            self._images.ensure(self._prefix(stop), grant.code, grant.version, grant.image, stop)
        except StoreRefusedError as error:
            self._watch.check()
            sentence = self._watch.trouble or f"the group's images may not be read ({error.code})"
            raise AttemptError(Outcome.NODE_TROUBLE, sentence) from None

    @contextlib.contextmanager
    def _timed(self, attempt: AttemptId, phase: str) -> Iterator[None]:
        """Note how long a phase takes, added to what agents before this one needed for it.

        In memory: the next note of stage-in follows at once.
        """
        began = boot_time()
        try:
            yield
        finally:
            state = self._store.get(attempt)
            before = getattr(state, phase, None) or 0.0
            took: dict[str, Any] = {phase: before + boot_time() - began}
            self._store.update(attempt, durable=False, **took)

    def _note(self, attempt: AttemptId, problem: AttemptError) -> None:
        log.warning("stage-in failed", extra={**attempt.log_fields, "outcome": problem.outcome})
        self._store.update(
            attempt, problem_outcome=problem.outcome, problem_message=problem.message
        )
