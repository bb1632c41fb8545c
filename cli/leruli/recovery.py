"""What became of folders whose submission was broken off: Ctrl-C, kill -9, a network, a power cut.

Such a folder has a bucket and no job id. The journal of the batch may have it; whether the service
took the job in before its answer was lost, only the service can say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from leruli.errors import LeruliError, UnknownCallError
from leruli.jobfolder import JobFolder
from leruli.journal import Journal, JournalView

#: A bulk call: buckets to the job of each, None where there is none.
Find = Callable[[Sequence[str]], "list[str | None]"]


def recall(directory: str, journal: JournalView | None) -> tuple[str | None, str | None]:
    """Return the job and the bucket of a folder, as it or the journal knows them.

    Of a folder without any trace of its job, and of one that has another bucket by now, the journal
    is not asked: somebody deleted leruli.bucket and leruli.job to submit it again. What the journal
    of the batch does not know, those of other patterns and lists may. Raises RefusedError.
    """
    folder = JobFolder(directory)
    job, bucket = folder.job(), folder.bucket()
    if job is None and journal is not None and folder.has_traces():
        known = journal.record(directory)
        if known.bucket is None:
            known = journal.record_elsewhere(directory)
        if known.bucket is not None and bucket in (None, known.bucket):
            return known.job, known.bucket
    return job, bucket


def recover(journal: Journal | None, directories: Iterable[str], find: Find) -> dict[str, str]:
    """Give folders back what the journal and the service know and they do not.

    Returns the folders of which the service alone knew that they have a job, and these jobs.
    """
    claimed: dict[str, str] = {}
    for directory in directories:
        # What is the matter with a folder is told when something is done with it.
        with contextlib.suppress(LeruliError):
            job, bucket = recall(directory, journal)
            folder = JobFolder(directory)
            if bucket is not None and folder.job() is None:
                folder.restore(bucket, job)
                if job is None:
                    claimed[directory] = bucket
    # An older service is asked in its own way: by submitting again.
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
