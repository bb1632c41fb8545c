"""Stage-in: the start grant, the image, the input."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from leruli_node.attempts.stage_socket import Answer
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.main_script import write_control
from leruli_node.errors import AttemptError, StoppedError
from leruli_node.fair_pool import FairPool
from leruli_node.files.input_list import INPUT_LIST, writing
from leruli_node.files.trash import Trash
from leruli_node.files.unpack import BrokenInputError, InputLimits, InputTooLargeError, unpack
from leruli_node.files.upload_notes import not_the_jobs
from leruli_node.files.walk import NAMES_SHOWN
from leruli_node.folders import Folders, make_ballast
from leruli_node.identity import NodeIdentity
from leruli_node.images.images import Images
from leruli_node.model import ASKING, GRANTED, STAGED, AttemptId, AttemptState, StartGrant, boot_id
from leruli_node.objects.job_bucket import ANY_TIME, BUCKET_MISSING, INPUT, JobBucket
from leruli_node.objects.object_store import (
    NotFoundError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.retry import AnyEvent, Backoff, Stop, retrying
from leruli_node.service.service_api import (
    RefusedError,
    RejectedError,
    ServiceApi,
    StaleError,
    UnreachableError,
)

log = logging.getLogger(__name__)

# What stage-in exits with; the service learns the reason from the receipt.
DROPPED = 3
FAILED = 4
SHUTTING_DOWN = 75

# So often the agent may end in the middle of unpacking one input before that is called the reason.
_MOST_DEATHS = 2


class StageIn:
    """Prepares attempts for their containers."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        identity: NodeIdentity,
        api: ServiceApi,
        images: Images,
        objects: ObjectStore,
        watch: StoreWatch,
        trash: Trash,
        retry_for_s: float,
        limits: InputLimits,
        unpacking: FairPool,
        stop: threading.Event,
        draining: threading.Event,
    ) -> None:
        self._folders = folders
        self._store = store
        self._identity = identity
        self._api = api
        self._images = images
        self._objects = objects
        self._watch = watch
        self._trash = trash
        self._retry_for_s = retry_for_s
        self._limits = limits
        self._unpacking = unpacking
        self._run = f"{boot_id()} {secrets.token_hex(8)}"
        self._stop = stop
        self._draining = draining
        self._aborts: dict[str, threading.Event] = {}

    def abort(self, attempt: AttemptId) -> None:
        """End a stage-in that is under way; nothing when there is none."""
        event = self._aborts.get(attempt.key)
        if event is not None:
            event.set()

    def __call__(self, attempt: AttemptId, alloc: str) -> Answer:
        """Prepare an attempt for its container; the answer's code is 0 when it may start.

        Can be asked again by the same allocation, after a restart of the agent for instance.
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
                self._note(attempt, AttemptError("stopped", "the job was stopped early"))
                return Answer(FAILED, "stopped")
            except Exception:
                # A task that asked again would meet the same, for ever.
                log.exception("stage-in failed unexpectedly", extra=attempt.log_fields)
                trouble = AttemptError("node_trouble", "the node could not prepare the job")
                # Not even that may work; then the service sees that the allocation failed.
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
            # Its output is there, and waits to be brought out.
            return Answer(FAILED, "this attempt has ended already")
        if state is not None and state.phase == STAGED:
            return Answer(0)
        if state is not None and state.problem_outcome is not None:
            return Answer(FAILED, state.problem_message or "")
        if (state is None or state.grant is None) and self._watch.trouble:
            # Without a start grant it costs the job nothing.
            if state is not None:
                self._store.remove(attempt)
            return Answer(DROPPED, self._watch.trouble)
        if state is None:
            # Kept before it is asked for: the service may grant it and the answer be lost with
            # the agent; the same startkey gets the same answer.
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
                raise AttemptError("node_trouble", "the node's disk is full")
            grant = state.grant or self._request_grant(attempt, state.startkey, stop)
            if grant is None:
                self._store.remove(attempt)
                return Answer(DROPPED, "the service has no use for this attempt")
            self._bring_image(grant, stop)
            self._bring_input(attempt, grant, stop)
        except AttemptError as problem:
            self._note(attempt, problem)
            return Answer(FAILED, problem.message)
        except OSError as error:
            why = error.strerror or type(error).__name__
            trouble = AttemptError("node_trouble", f"the node's disk failed: {why}")
            self._note(attempt, trouble)
            return Answer(FAILED, trouble.message)
        self._store.update(attempt, phase=STAGED, boot_id=boot_id())
        log.info("staged in", extra=attempt.log_fields)
        return Answer(0)

    def _request_grant(self, attempt: AttemptId, startkey: str, stop: Stop) -> StartGrant | None:
        """The start grant, None when the attempt is to be dropped."""
        try:
            answer = self._api.patiently(
                self._api.start, Backoff(stop, self._retry_for_s), attempt, startkey
            )
            grant = StartGrant.parse(answer)
        except (StaleError, RefusedError) as error:
            log.info("not started: %s", error, extra=attempt.log_fields)
            return None
        except UnreachableError as error:
            log.error("no leave to start: %s", error, extra=attempt.log_fields)
            raise AttemptError(
                "node_trouble", "the node could not reach the service to start the job"
            ) from None
        except (RejectedError, KeyError, TypeError, ValueError) as error:
            log.error("attempt-start was not understood: %s", error, extra=attempt.log_fields)
            raise AttemptError(
                "node_trouble", "the node and the service do not understand each other"
            ) from None
        self._store.update(attempt, phase=GRANTED, grant=grant)
        return grant

    def _prefix(self, stop: Stop) -> str:
        """The prefix of image names; the join brings one that an earlier release did not keep."""
        while (prefix := self._identity.image_prefix) is None:
            if stop.wait(0.2):
                raise StoppedError
        return prefix

    def _bring_image(self, grant: StartGrant, stop: Stop) -> None:
        try:
            self._images.ensure(self._prefix(stop), grant.code, grant.version, grant.image, stop)
        except StoreRefusedError as error:
            self._watch.check()
            sentence = self._watch.trouble or f"the group's images may not be read ({error.code})"
            raise AttemptError("node_trouble", sentence) from None

    def _bring_input(self, attempt: AttemptId, grant: StartGrant, stop: Stop) -> None:
        job = self._folders.job(attempt.key)
        deaths = self._deaths(attempt)

        def report(error: Exception) -> None:
            log.warning("bringing input waits for the store: %s", error)

        def bring() -> None:
            self._empty(job)
            self._check_bucket(attempt, grant)
            with self._unpacks(attempt, deaths > 0, stop):
                self._unpack(grant, job, stop)

        try:
            retrying(
                bring,
                StoreUnavailableError,
                Backoff(stop, self._retry_for_s),
                report,
                final=(StoreRefusedError,),
            )
        except NotFoundError as error:
            why = BUCKET_MISSING if error.bucket else "the job's input (run.tgz) is missing"
            raise AttemptError("input_broken", why) from None
        except UnstorableError:
            raise AttemptError("input_broken", "the job's bucket has no valid name") from None
        except BrokenInputError as error:
            raise AttemptError("input_broken", str(error)) from None
        except StoreRefusedError as error:
            raise self._refused(error) from None
        except StoreUnavailableError:
            raise AttemptError(
                "node_trouble", "the node could not reach the group's store"
            ) from None
        write_control(job / "control", attempt, grant)

    def _refused(self, error: StoreRefusedError) -> AttemptError:
        """Whose fault it is that the store refuses the job's bucket: the key's, or the bucket's."""
        self._watch.check()
        if self._watch.trouble:
            return AttemptError("node_trouble", self._watch.trouble)
        return AttemptError(
            "input_broken", f"the group's S3 key may not read the job's bucket ({error.code})"
        )

    def _check_bucket(self, attempt: AttemptId, grant: StartGrant) -> None:
        """Refuse a bucket with objects that the job did not write: they might get lost."""
        follows_older = attempt.attempt > 1 and grant.unmarkedoutput is not False
        until = ANY_TIME if follows_older else None
        bucket = JobBucket(self._objects, grant.bucketid, attempt, unmarked_until=until)
        foreign = bucket.foreign(NAMES_SHOWN + 1)
        if foreign:
            raise AttemptError("input_broken", not_the_jobs(foreign))
        newest = bucket.newest() if follows_older else None
        if newest is not None:
            self._store.update(attempt, unmarked_until=newest.timestamp())

    def _unpack(self, grant: StartGrant, job: Path, stop: Stop) -> None:
        most = min(self._limits.bytes, (grant.diskmb or self._limits.bytes) * 2**20)
        limits = InputLimits(self._limits.files, most)
        try:
            source = self._objects.read(grant.bucketid, INPUT)
            with source as stream, writing(job / INPUT_LIST) as files:
                unpack(stream.chunks(), job / "rundir", limits, stop, files)
        except InputTooLargeError:
            if most == self._limits.bytes:
                raise
            raise AttemptError(
                "out_of_disk", f"its input alone needs more than {grant.diskmb} MB of disk"
            ) from None

    def _deaths(self, attempt: AttemptId) -> int:
        """How often the agent was killed while it unpacked this input; a problem from twice on.

        Another boot does not count: then the machine ended, and everything on it.
        """
        state = self._store.get(attempt)
        if state is None:
            return 0
        deaths, run = state.unpacking_deaths, state.unpacking_run
        if run not in (None, self._run) and run.split(" ")[0] == boot_id():
            deaths += 1
            log.warning("the agent ended while it unpacked an input", extra=attempt.log_fields)
        if run is not None:
            self._store.update(attempt, unpacking_run=None, unpacking_deaths=deaths)
        if deaths >= _MOST_DEATHS:
            raise AttemptError(
                "input_broken",
                f"the node agent was killed {deaths} times while it unpacked the input (run.tgz), "
                "the last time while it unpacked nothing else",
            )
        return deaths

    @contextlib.contextmanager
    def _unpacks(self, attempt: AttemptId, alone: bool, stop: Stop) -> Iterator[None]:
        """Wait for a place to unpack in, and note that it is done.

        An input that may be why the agent died is unpacked alone, so that no other is blamed.
        """
        with self._unpacking.reserved(self._unpacking.total if alone else 1, stop):
            self._store.update(attempt, sync=False, unpacking_run=self._run)
            try:
                yield
            finally:
                self._store.update(attempt, sync=False, unpacking_run=None)

    def _empty(self, job: Path) -> None:
        if not self._trash.put(job):
            raise AttemptError("node_trouble", "the node could not clear the job's folder")
        job.mkdir(mode=0o700)

    def _note(self, attempt: AttemptId, problem: AttemptError) -> None:
        log.warning("stage-in failed", extra={**attempt.log_fields, "outcome": problem.outcome})
        self._store.update(
            attempt, problem_outcome=problem.outcome, problem_message=problem.message
        )
