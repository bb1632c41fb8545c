"""Uploads the output of an attempt while the service grants this node the upload lease."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import datetime, timezone

from leruli_node.errors import StoppedError
from leruli_node.files.input_list import INPUT_LIST, InputList
from leruli_node.files.send import UploadError
from leruli_node.files.upload import Uploaded, Uploader
from leruli_node.folders import Folders
from leruli_node.model import AttemptId, AttemptState, Decision
from leruli_node.objects.job_bucket import ANY_TIME, JobBucket
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.upload_lease import HeldLeases, UploadLease
from leruli_node.outcomes import Outcome
from leruli_node.retry import AnyEvent, Backoff, Stop
from leruli_node.service.service_api import RefusedError, RejectedError, ServiceApi, StaleError

log = logging.getLogger(__name__)

# Pause after a refusal, in seconds.
_REFUSED_PAUSE = 30.0


class LeasedUpload:
    """Uploads outputs, each under its own upload lease."""

    def __init__(
        self,
        folders: Folders,
        api: ServiceApi,
        objects: ObjectStore,
        uploader: Uploader,
        stop: threading.Event,
        renewal: float | None = None,
        held: HeldLeases | None = None,
    ) -> None:
        """Build the uploader.

        `renewal` is the time between two renewals of a lease, in seconds. `held` has the leases
        that came with start grants.
        """
        self._folders = folders
        self._api = api
        self._objects = objects
        self._uploader = uploader
        self._stop = stop
        self._renewal = renewal
        # The leases of running uploads, by the attempt's key.
        self._leases: dict[str, UploadLease] = {}
        self._held = held if held is not None else HeldLeases()

    def withdraw(self, attempt: AttemptId) -> bool:
        """End a running upload of the attempt. Return whether there was one."""
        lease = self._leases.get(attempt.key)
        if lease is None:
            return False
        lease.withdraw()
        return True

    def upload(
        self, attempt: AttemptId, state: AttemptState, bucket: str, decision: Decision
    ) -> tuple[Decision, Uploaded | None] | None:
        """Upload the output while this node holds the upload lease.

        Returns
        -------
        The decision and what was uploaded. The decision is another one if the upload failed. None
        if the service refuses or withdraws the lease.

        Raises
        ------
        StoppedError
            The agent is being stopped.
        """

        def ask(timeout: float) -> float | None:
            return self._api.may_upload(attempt, timeout)

        lease = UploadLease(ask, self._stop, self._renewal, held=self._held.take(attempt.key))
        stop = AnyEvent(self._stop, lease.withdrawn)
        self._leases[attempt.key] = lease
        try:
            if not self._is_granted(attempt, lease, stop):
                return None
            until = _unmarked_until(state)
            job_bucket = JobBucket(self._objects, bucket, attempt, lease, until)
            with lease.renewed(attempt.log_fields):
                return self._upload(attempt, state, job_bucket, decision, stop)
        except StoppedError:
            if not lease.withdrawn.is_set():
                raise
            return None
        finally:
            del self._leases[attempt.key]

    def _is_granted(self, attempt: AttemptId, lease: UploadLease, stop: Stop) -> bool:
        while lease.is_due():
            try:
                self._api.until_answered(lease.renew, Backoff(stop))
                return True
            except StaleError as error:
                log.info("nothing is uploaded: %s", error, extra=attempt.log_fields)
                return False
            except (RefusedError, RejectedError) as error:
                # Not final: attempts that run may end although the compute secret was rotated.
                log.error("no upload lease: %s", error, extra=attempt.log_fields)
                if stop.wait(_REFUSED_PAUSE):
                    raise StoppedError from None
        return True

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
        log.error("upload failed: %s", message, extra=attempt.log_fields)
        if not state.ran:
            # The bucket lacks only the explanation, which is in the receipt too.
            return decision, None
        if decision.message:
            message = f"{decision.message}; {message}"
        return replace(decision, outcome=Outcome.UPLOAD_FAILED, message=message), None


def _unmarked_until(state: AttemptState) -> datetime | None:
    if not state.marks_objects:
        return ANY_TIME
    if state.unmarked_until is None:
        return None
    return datetime.fromtimestamp(state.unmarked_until, timezone.utc)
