"""Stage-out: how it ended, leave to upload, the output, the receipt, and then nothing is left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from leruli_node.attempts.outcome import decide
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.clock import wall_offset
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
    container_facts,
)
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.container.script_notes import read_notes
from leruli_node.errors import StoppedError
from leruli_node.files.input_list import INPUT_LIST, InputList
from leruli_node.files.trash import Trash
from leruli_node.files.upload import Uploaded, Uploader, UploadError
from leruli_node.folders import Folders
from leruli_node.model import (
    DECIDED,
    STAGED,
    AttemptId,
    AttemptState,
    ContainerFacts,
    Decision,
    boot_id,
)
from leruli_node.objects.job_bucket import ANY_TIME, JobBucket
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.upload_lease import UploadLease
from leruli_node.retry import AnyEvent, Backoff, Stop
from leruli_node.service.service_api import RefusedError, RejectedError, ServiceApi, StaleError

log = logging.getLogger(__name__)

# Docker may be restarting when a job has ended; after this its word is not waited for.
DOCKER_RETRY_FOR_S = 600.0
_FIRST_TRY = 10.0
_LONGEST_MESSAGE = 1000
# The service has its own sentence for these; ours goes into joberr.txt only.
_SAID_BY_THE_SERVICE = ("time_limit", "out_of_memory")


class StageOut:
    """Ends attempts; each step can be repeated after a crash."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        api: ServiceApi,
        engine: DockerEngine,
        access: RundirAccess,
        objects: ObjectStore,
        trash: Trash,
        uploader: Uploader,
        receipts: Receipts,
        grace: float,
        stop: threading.Event,
        abort_stage_in: Callable[[AttemptId], None],
        docker_retry_for_s: float = DOCKER_RETRY_FOR_S,
        renewal: float | None = None,
        is_disk_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folders = folders
        self._store = store
        self._api = api
        self._engine = engine
        self._access = access
        self._objects = objects
        self._trash = trash
        self._uploader = uploader
        self._receipts = receipts
        self._grace = grace
        self._stop = stop
        self._abort_stage_in = abort_stage_in
        self._docker_retry_for_s = docker_retry_for_s
        self._is_disk_full = is_disk_full
        self._renewal = renewal
        # Of the uploads that are under way, by the attempt's key.
        self._leases: dict[str, UploadLease] = {}
        self.nodeid: str | None = None

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
        backoff = Backoff(self._stop)
        while True:
            try:
                return self._finish(attempt)
            except StoppedError:
                raise
            except Exception:
                log.exception("stage-out failed unexpectedly; again", extra=_facts(attempt))
                backoff.pause()

    def _finish(self, attempt: AttemptId) -> None:
        with self._store.work_lock(attempt):
            state = self._store.get(attempt)
            if state is None:
                return
            if self._receipts.has(attempt):
                self.clean_up(attempt)
                return
            if state.decision is None:
                state = self._decide(attempt, state)
            decision = state.decision
            if decision is None:
                return
            uploaded: Uploaded | None = None
            if state.grant is not None and _wants_upload(state, decision):
                outcome = self._upload_with_lease(attempt, state, state.grant.bucketid, decision)
                if outcome is None:
                    self.clean_up(attempt)
                    return
                decision, uploaded = outcome
            self._receipts.spool(attempt, _receipt(state, decision, uploaded))
            self.clean_up(attempt)
        log.info("ended", extra={**_facts(attempt), "outcome": decision.outcome})
        self._receipts.announce(attempt, _FIRST_TRY)

    def requeue(self, attempt: AttemptId, message: str) -> None:
        """End an attempt without its output: the node is shut down and the job runs elsewhere."""
        with self._held_at_once(attempt) as state:
            if state is None:
                return
            if not self._receipts.has(attempt):
                decision = Decision("stopped", message=message)
                self._receipts.spool(attempt, _receipt(state, decision, None))
            self.clean_up(attempt)

    def drop(self, attempt: AttemptId) -> None:
        """End an attempt that was given to another node: nothing (more) of it is uploaded."""
        self._abort_stage_in(attempt)
        lease = self._leases.get(attempt.key)
        if lease is not None:
            # Its thread, which is woken by this, holds the lock and cleans up.
            lease.withdraw()
            return
        with self._held_at_once(attempt) as state:
            if state is not None:
                self.clean_up(attempt)

    def settle(self, attempt: AttemptId) -> None:
        """Keep how an attempt ended and remove its container; the next agent uploads its output."""
        with self._held_at_once(attempt) as state:
            if state is None:
                return
            try:
                if state.decision is None:
                    self._decide(attempt, state)
                for container in self._containers(attempt):
                    self._engine.remove(container)
            except (DockerUnavailableError, DockerRefusedError, StoppedError) as error:
                log.warning("a container stays: %s", type(error).__name__, extra=_facts(attempt))

    @contextmanager
    def _held_at_once(self, attempt: AttemptId) -> Iterator[AttemptState | None]:
        """Hold the attempt's lock and give its state; None if it is gone or being worked on."""
        lock = self._store.work_lock(attempt)
        if not lock.acquire(timeout=1.0):
            yield None
            return
        try:
            yield self._store.get(attempt)
        finally:
            lock.release()

    def clean_up(self, attempt: AttemptId) -> None:
        """Remove container, folder and, last, the state. What cannot go now is swept later.

        Raises nothing, and waits for no folder: the attempt is over, whatever it left.
        """
        try:
            for container in self._containers(attempt):
                self._engine.remove(container)
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("a container stays for now: %s", error, extra=_facts(attempt))
        except Exception:
            log.exception("a container stays for now", extra=_facts(attempt))
        self._trash.put(self._folders.job(attempt.key))
        try:
            if self._store.get(attempt) is not None:
                self._store.remove(attempt)
        except OSError as error:
            # The next stage-out finds its receipt, or is refused leave to upload.
            why = error.strerror
            log.warning("an attempt's state stays for now: %s", why, extra=_facts(attempt))

    def _decide(self, attempt: AttemptId, state: AttemptState) -> AttemptState:
        container: ContainerFacts | None = None
        killed = False
        docker_lost = False
        if state.problem_outcome is None and state.grant is not None:
            try:
                container, killed = self._settle(attempt)
            except DockerUnavailableError:
                docker_lost = True
        state = self._store.get(attempt) or state
        if self._is_disk_full():
            # It may have ended between two looks of the watcher.
            state = self._store.update(attempt, durable=False, disk_full=True) or state
        job = self._folders.job(attempt.key)
        readable = True
        # A container that is gone may have run to its end before.
        if container is not None or (state.phase == STAGED and not docker_lost):
            readable = self._take(job)
        notes = read_notes(job / "control")
        if docker_lost:
            decision = Decision("node_trouble", message="Docker on the node does not answer")
        else:
            decision = decide(state, container, notes, boot_id(), killed, wall_offset())
        if not readable:
            unread = "the node could not make all files of the job readable for itself"
            said = f"{decision.message}; {unread}" if decision.message else unread
            decision = replace(decision, message=said)
        # Without Docker's word on the container its output is brought all the same.
        ran = (
            (container is not None and container.started_at is not None)
            or state.started_at is not None
            or notes.started
        )
        changed = self._store.update(attempt, phase=DECIDED, decision=decision, ran=ran)
        return changed or state

    def _take(self, job: Path) -> bool:
        """Make the job's files readable; False when that failed for as long as Docker gets."""
        backoff = Backoff(self._stop, self._docker_retry_for_s, longest=10.0)
        while not self._access.take(job):
            if not backoff.pause():
                return False
        return True

    def _settle(self, attempt: AttemptId) -> tuple[ContainerFacts | None, bool]:
        """The attempt's container, not running any more, and whether somebody ended it.

        Raises DockerUnavailableError when Docker does not come back in time.
        """
        backoff = Backoff(self._stop, self._docker_retry_for_s, longest=10.0)
        while True:
            try:
                return self._inspect(attempt)
            except (DockerUnavailableError, DockerRefusedError) as error:
                log.warning("stage-out waits for Docker: %s", error, extra=_facts(attempt))
                if not backoff.pause():
                    raise DockerUnavailableError(str(error)) from None

    def _inspect(self, attempt: AttemptId) -> tuple[ContainerFacts | None, bool]:
        found: list[dict[str, Any]] = []
        for container in self._containers(attempt):
            inspected = self._engine.inspect(container)
            if inspected is not None and inspected["State"].get("Running"):
                self._end_container(attempt, container)
                inspected = self._engine.inspect(container)
            if inspected is not None:
                found.append(inspected)
        if not found:
            return None, False
        # Should Nomad have started it twice, the latest tells: it was refused by the marker.
        latest = max(found, key=lambda one: str(one.get("Created", "")))
        facts = container_facts(latest)
        killed = False
        if facts.exit_code != 0 and facts.started_at is not None:
            until = facts.finished_at or time.time()
            killed = self._engine.was_signalled(latest["Id"], facts.started_at, until)
        return facts, killed

    def _end_container(self, attempt: AttemptId, container: str) -> None:
        state = self._store.get(attempt)
        if state is not None and state.stopped_at is None and state.time_limit_at is None:
            self._store.update(attempt, stopped_at=time.time())
        log.warning("the container still runs; ending it", extra=_facts(attempt))
        self._engine.signal(container, "TERM")
        deadline = time.monotonic() + self._grace
        while True:
            inspected = self._engine.inspect(container)
            if inspected is None or not inspected["State"].get("Running"):
                return
            if time.monotonic() >= deadline:
                self._engine.signal(container, "KILL")
                deadline = time.monotonic() + 10.0
            if self._stop.wait(0.2):
                raise StoppedError

    def _containers(self, attempt: AttemptId) -> list[str]:
        if self.nodeid is None:
            return []
        return [one.id for one in self._engine.list_own(self.nodeid, attempt.key)]

    def _upload_with_lease(
        self, attempt: AttemptId, state: AttemptState, bucket: str, decision: Decision
    ) -> tuple[Decision, Uploaded | None] | None:
        """Upload while the service lets this node; None when it does not (any more)."""

        def ask(timeout: float) -> float | None:
            return self._api.may_upload(attempt, timeout)

        lease = UploadLease(ask, self._stop, self._renewal)
        stop = AnyEvent(self._stop, lease.withdrawn)
        self._leases[attempt.key] = lease
        try:
            if not self._is_granted(attempt, lease, stop):
                return None
            until = _unmarked_until(state)
            job_bucket = JobBucket(self._objects, bucket, attempt, lease, until)
            with lease.renewed(_facts(attempt)):
                return self._upload(attempt, state, job_bucket, decision, stop)
        except StoppedError:
            if not lease.withdrawn.is_set():
                raise
            return None
        finally:
            del self._leases[attempt.key]

    def _is_granted(self, attempt: AttemptId, lease: UploadLease, stop: Stop) -> bool:
        while True:
            try:
                self._api.patiently(lease.renew, Backoff(stop))
                return True
            except StaleError as error:
                log.info("nothing is uploaded: %s", error, extra=_facts(attempt))
                return False
            except (RefusedError, RejectedError) as error:
                # Attempts that run may end in spite of a rotated secret, so this is not final.
                log.error("no leave to upload: %s", error, extra=_facts(attempt))
                if stop.wait(30.0):
                    raise StoppedError from None

    def _upload(
        self,
        attempt: AttemptId,
        state: AttemptState,
        bucket: JobBucket,
        decision: Decision,
        stop: Stop,
    ) -> tuple[Decision, Uploaded | None]:
        job = self._folders.job(attempt.key)
        rundir = job / "rundir" if state.ran else None
        inputs = InputList.read(job / INPUT_LIST)
        try:
            uploaded = self._uploader.upload(bucket, rundir, decision.message, stop, inputs)
            return decision, uploaded
        except UploadError as error:
            message = str(error)
        log.error("upload failed: %s", message, extra=_facts(attempt))
        if not state.ran:
            # Only the explanation is missing in the bucket; the receipt has it.
            return decision, None
        if decision.message:
            message = f"{decision.message}; {message}"
        return _as_failed_upload(decision, message), None


def _wants_upload(state: AttemptState, decision: Decision) -> bool:
    # Without a container there is only an explanation to bring, and none where the job is going
    # to be tried again.
    return state.ran or decision.outcome not in ("node_trouble", "stopped")


def _unmarked_until(state: AttemptState) -> datetime | None:
    if not state.marks_objects:
        return ANY_TIME
    if state.unmarked_until is None:
        return None
    return datetime.fromtimestamp(state.unmarked_until, timezone.utc)


def _as_failed_upload(decision: Decision, message: str) -> Decision:
    return replace(decision, outcome="upload_failed", message=message)


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


def _facts(attempt: AttemptId) -> dict[str, object]:
    return {"job": attempt.job, "attempt": attempt.attempt}
