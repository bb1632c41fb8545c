"""Purging the buckets of many folders' jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from leruli.cancellation import Advance, CheckCancelled
from leruli.errors import LeruliError
from leruli.folder.job_folder import JobFolder
from leruli.folder.provenance import provenance_of
from leruli.jobs.many import (
    FolderJob,
    Locate,
    Tally,
    choose,
    or_why_missing,
    ownership,
    until_away,
    why_not_over,
)
from leruli.jobs.purge import purge, why_keep

if TYPE_CHECKING:
    from leruli.storage.store import Store


def purge_folders(
    store: Store,
    folders: Sequence[FolderJob],
    locate: Locate,
    *,
    force: bool = False,
    advance: Advance = lambda _: None,
) -> Tally:
    """Purge the buckets of all jobs that are over, unless `jobs.purge.why_keep` has a reason.

    With `force` all buckets are purged, whatever the states of their jobs, except those of copied
    folders.
    """
    tally = Tally()
    check_own = ownership(folders)

    def why_not(one: FolderJob) -> str | None:
        check_own(one)
        if force and (one.bucket or one.jobid):
            return None
        return why_not_over(one)

    def work(one: FolderJob, check_cancelled: CheckCancelled) -> str | None:
        check_cancelled()
        return or_why_missing(one, lambda: purge_one(one, check_cancelled))

    def purge_one(one: FolderJob, check_cancelled: CheckCancelled) -> str | None:
        bucket = one.bucket or locate(str(one.jobid))
        if not force:
            completed = one.state is not None and one.state.status == "completed"
            provenance = provenance_of(one.directory, check_cancelled)
            why = why_keep(store, bucket, one.directory, provenance, completed, check_cancelled)
            if why is not None:
                return why
        purge(store, bucket)
        JobFolder(one.directory).forget_bucket(bucket)
        return None

    chosen = choose(folders, tally, why_not, advance)
    for one, outcome in until_away(chosen, work, tally):
        advance(1)
        if isinstance(outcome, LeruliError):
            tally.failed[one.directory] = str(outcome)
        elif outcome is not None:
            tally.skipped[one.directory] = outcome
        else:
            tally.done.append(one.directory)
    return tally
