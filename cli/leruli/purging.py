"""Deleting the bucket of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leruli.errors import RefusedError

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.storage import Store


def check_purgeable(service: Service, jobid: str) -> None:
    """Raise RefusedError while the job needs its bucket, NotFoundError if there is no job."""
    state = service.status(jobid)
    if not state.is_final:
        raise RefusedError(
            f"Job {jobid} is {state.status}: without its bucket it would fail. Wait until it is "
            "over, cancel it with `leruli task-cancel`, or purge all the same with --force."
        )


def purge(store: Store, bucket: str) -> int:
    """Delete a job's bucket with all in it, for good; returns the number of objects deleted."""
    if bucket.startswith("code-"):
        raise RefusedError(
            "That bucket holds the images of your group, not a job. It is not purged."
        )
    return store.remove_bucket(bucket)
