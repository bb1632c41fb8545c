"""Recovering the job ids of folders whose submission was interrupted (Ctrl-C, network, power cut).

Such a folder has a bucket and no job id. The journal of the batch may have the id. Otherwise only
the service knows whether it accepted the job before its answer was lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from leruli.errors import LeruliError, UnknownCallError
from leruli.folder.job_folder import JobFolder
from leruli.folder.journal import Journal, JournalView

#: A bulk call: takes buckets, returns the job of each, None without one.
Find = Callable[[Sequence[str]], "list[str | None]"]


def recall(directory: str, journal: JournalView | None) -> tuple[str | None, str | None]:
    """Return the job and the bucket of a folder, from its files or from the journal.

    The journal is not used if the folder has no trace of a job or has another bucket. Then somebody
    deleted both files to submit it again. If the journal of the batch does not know the folder, the
    journals of other patterns and lists are asked. Raises RefusedError.
    """
    folder = JobFolder(directory)
    job, bucket = folder.job(), folder.bucket()
    if job is None and journal is not None and folder.has_traces():
        known = journal.entry(directory)
        if known.bucket is None:
            known = journal.entry_elsewhere(directory)
        if known.bucket is not None and bucket in (None, known.bucket):
            return known.job, known.bucket
    return job, bucket


def recover(journal: Journal | None, directories: Iterable[str], find: Find) -> dict[str, str]:
    """Write lost job ids and bucket names into the folders, from the journal or the service.

    Returns the folders and jobs that only the service knew.
    """
    claimed: dict[str, str] = {}
    for directory in directories:
        # A folder that cannot be read is skipped here. The command that uses it reports it.
        with contextlib.suppress(LeruliError):
            job, bucket = recall(directory, journal)
            folder = JobFolder(directory)
            if bucket is not None and folder.job() is None:
                folder.restore(bucket, job)
                if job is None:
                    claimed[directory] = bucket
    # An older service lacks this call. Submitting again finds the job there.
    with contextlib.suppress(UnknownCallError):
        return _record(journal, claimed, find(list(claimed.values())))
    return {}


def _record(
    journal: Journal | None, claimed: dict[str, str], jobs: Iterable[str | None]
) -> dict[str, str]:
    found = {name: job for name, job in zip(claimed, jobs) if job is not None}
    if journal is not None:
        journal.accept((name, claimed[name], job) for name, job in found.items())
    recorded = {}
    for name, job in found.items():
        with contextlib.suppress(LeruliError):
            JobFolder(name).record_job(job)
            recorded[name] = job
    return recorded
