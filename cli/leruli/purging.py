"""Deleting the bucket of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leruli.errors import RefusedError
from leruli.fetching import not_here, select_results

if TYPE_CHECKING:
    from leruli.api import JobState, Service
    from leruli.storage import Store

# Names that are told of results that were not fetched.
_MOST_NAMES = 3

#: Said of a bucket that has to stay.
NOT_FETCHED = "completed, but not fetched"


def check_purgeable(service: Service, jobid: str) -> JobState:
    """Return the state of a job that is over.

    Raises RefusedError while the job needs its bucket, NotFoundError if there is no job.
    """
    state = service.status(jobid)
    if not state.is_final:
        raise RefusedError(
            f"Job {jobid} is {state.status}: without its bucket it would fail. Wait until it is "
            "over, cancel it with `leruli task-cancel`, or purge all the same with --force."
        )
    return state


def why_keep(
    store: Store,
    bucket: str,
    directory: str,
    completed: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> str | None:
    """Say in a few words why a bucket has to stay: it holds what nobody has fetched.

    Returns None if it may go. Raises RefusedError if some of the results are in the folder and some
    are not: whoever began to fetch them wants the rest too.
    """
    results = select_results(store, bucket)
    absent = not_here(results, directory, advance)
    if not absent:
        return None
    if len(absent) == len(results):
        return NOT_FETCHED if completed else None
    names = ", ".join(absent[:_MOST_NAMES])
    more = len(absent) - _MOST_NAMES
    names += f" and {more} more" if more > 0 else ""
    raise RefusedError(
        "Its results were fetched only in part, so its bucket stays. The folder does not have "
        f"{names} as the storage does. Fetch them with `leruli task-get`, or purge all the same "
        "with --force."
    )


def purge(store: Store, bucket: str) -> int:
    """Delete a job's bucket with all in it, for good; returns the number of objects deleted."""
    if bucket.startswith("code-"):
        raise RefusedError(
            "That bucket holds the images of your group, not a job. It is not purged."
        )
    return store.remove_bucket(bucket)
