"""Fetches the input of an attempt: checks the job's bucket, unpacks run.tgz, writes main.sh."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

from leruli_node.attempts.store import AttemptStore
from leruli_node.container.main_script import write_control
from leruli_node.errors import AttemptError
from leruli_node.fair_pool import FairPool
from leruli_node.files.input_list import INPUT_LIST, writing
from leruli_node.files.trash import Trash
from leruli_node.files.unpack import BrokenInputError, InputLimits, InputTooLargeError, unpack
from leruli_node.files.upload_notes import not_the_jobs
from leruli_node.files.walk import NAMES_SHOWN
from leruli_node.folders import Folders
from leruli_node.model import AttemptId, StartGrant, boot_id
from leruli_node.objects.job_bucket import ANY_TIME, BUCKET_MISSING, INPUT, JobBucket
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import (
    NotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.outcomes import Outcome
from leruli_node.retry import Backoff, Stop, retrying

log = logging.getLogger(__name__)

# After so many ends of the agent while it unpacked one input, that input is held to be the cause.
_MOST_DEATHS = 2


class InputFetcher:
    """Fetches inputs; at most as many at a time as the pool has units.

    `retry_for_s` is the retry time for the store, in seconds.
    """

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        objects: ObjectStore,
        watch: StoreWatch,
        trash: Trash,
        retry_for_s: float,
        limits: InputLimits,
        pool: FairPool,
        node_name: str = "",
    ) -> None:
        self._folders = folders
        self._store = store
        self._objects = objects
        self._watch = watch
        self._trash = trash
        self._retry_for_s = retry_for_s
        self._limits = limits
        self._pool = pool
        self._node_name = node_name
        self._run = f"{boot_id()} {secrets.token_hex(8)}"

    def fetch(self, attempt: AttemptId, grant: StartGrant, stop: Stop) -> None:
        """Fetch and unpack an attempt's input into its folder, and write main.sh.

        Raises
        ------
        AttemptError
            The input cannot be used, or this node cannot fetch it.
        OSError
            The node's disk failed.
        StoppedError
            `stop` is set.
        """
        job = self._folders.job(attempt.key)
        deaths = self._deaths(attempt)

        def report(error: Exception) -> None:
            log.warning("fetching input waits for the store: %s", error)

        def fetch() -> None:
            self._empty(job)
            self._check_bucket(attempt, grant)
            with self._unpacks(attempt, deaths > 0, stop):
                self._unpack(grant, job, stop)

        try:
            retrying(
                fetch,
                StoreUnavailableError,
                Backoff(stop, self._retry_for_s),
                report,
                final=(StoreRefusedError,),
            )
        except NotFoundError as error:
            why = BUCKET_MISSING if error.bucket else "the job's input (run.tgz) is missing"
            raise AttemptError(Outcome.INPUT_BROKEN, why) from None
        except UnstorableError:
            raise AttemptError(Outcome.INPUT_BROKEN, "the job's bucket has no valid name") from None
        except BrokenInputError as error:
            raise AttemptError(Outcome.INPUT_BROKEN, str(error)) from None
        except StoreRefusedError as error:
            raise self._refused(error) from None
        except StoreUnavailableError:
            raise AttemptError(
                Outcome.NODE_TROUBLE, "the node could not reach the group's store"
            ) from None
        write_control(job / "control", attempt, grant, self._node_name)

    def _refused(self, error: StoreRefusedError) -> AttemptError:
        """Return the problem: the store refuses this node's key, or the key for this bucket."""
        self._watch.check()
        if self._watch.trouble:
            return AttemptError(Outcome.NODE_TROUBLE, self._watch.trouble)
        return AttemptError(
            Outcome.INPUT_BROKEN, f"the group's S3 key may not read the job's bucket ({error.code})"
        )

    def _check_bucket(self, attempt: AttemptId, grant: StartGrant) -> None:
        """Refuse a bucket with objects that the job did not write: they could get lost."""
        follows_older = attempt.attempt > 1 and grant.unmarkedoutput is not False
        until = ANY_TIME if follows_older else None
        bucket = JobBucket(self._objects, grant.bucketid, attempt, unmarked_until=until)
        foreign = bucket.foreign(NAMES_SHOWN + 1)
        if foreign:
            raise AttemptError(Outcome.INPUT_BROKEN, not_the_jobs(foreign))
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
                Outcome.OUT_OF_DISK, f"its input alone needs more than {grant.diskmb} MB of disk"
            ) from None

    def _deaths(self, attempt: AttemptId) -> int:
        """Return how often the agent was killed while it unpacked this input.

        Another boot does not count: then the whole machine ended.

        Raises
        ------
        AttemptError
            It was killed _MOST_DEATHS times or more.
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
                Outcome.INPUT_BROKEN,
                f"the node agent was killed {deaths} times while it unpacked the input (run.tgz), "
                "the last time while it unpacked nothing else",
            )
        return deaths

    @contextlib.contextmanager
    def _unpacks(self, attempt: AttemptId, alone: bool, stop: Stop) -> Iterator[None]:
        """Wait for an unpacking slot, and note in the state that unpacking runs.

        An input that may have killed the agent is unpacked alone, so that no other is blamed.
        """
        with self._pool.reserved(self._pool.total if alone else 1, stop):
            self._store.update(attempt, sync=False, unpacking_run=self._run)
            try:
                yield
            except BaseException:
                self._store.update(attempt, sync=False, unpacking_run=None)
                raise
            # In memory: the next note of stage-in follows at once.
            self._store.update(attempt, durable=False, unpacking_run=None)

    def _empty(self, job: Path) -> None:
        if not self._trash.put(job):
            raise AttemptError(Outcome.NODE_TROUBLE, "the node could not clear the job's folder")
        job.mkdir(mode=0o700)
