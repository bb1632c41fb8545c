"""What jobs used, and what to ask for next time, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from leruli import settings
from leruli.errors import RefusedError
from leruli.jobs.efficiency import Resource, report
from leruli.python_api.arguments import Folder
from leruli.python_api.batch_names import batch_id
from leruli.python_api.job import read_answer
from leruli.python_api.jobs import task_status_many
from leruli.service.reports import ReportClient


@dataclass(frozen=True)
class JobUse:
    """A job that has ended: what it asked for, and what its last attempt used.

    A figure is None if the machine did not measure it.
    """

    jobid: str
    name: str
    state: str
    cores: int
    memory_mb: int
    time_limit_s: int
    disk_limit_mb: int | None  #: None: the service's default
    wall_s: float | None
    cpu_s: float | None
    peak_no_cache_mb: int | None  #: memory without page cache
    peak_memory_mb: int | None  #: memory with page cache
    disk_mb: int | None

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobUse:
        """Read a job of the service's answer. Raises ServiceError."""
        used = job["used"]
        return read_answer(
            lambda: cls(
                jobid=job["jobid"],
                name=job["name"],
                state=job["state"],
                cores=job["cores"],
                memory_mb=job["memorymb"],
                time_limit_s=job["timelimit"],
                disk_limit_mb=job.get("diskmb"),
                wall_s=used.get("wallseconds"),
                cpu_s=used.get("cpuseconds"),
                peak_no_cache_mb=used.get("peaknocachemb"),
                peak_memory_mb=used.get("peakmemorymb"),
                disk_mb=used.get("diskmb"),
            )
        )


@dataclass(frozen=True)
class UseReport:
    """What jobs used, and what to ask for next time."""

    jobs: list[JobUse]  #: those that have ended
    #: By name: cores, memory (MB), time (s), disk (MB).
    resources: dict[str, Resource]
    cpu_efficiency: float | None  #: CPU time as a part of cores times wall time


def task_report(jobs: Iterable[Folder] | None = None, *, batch: str | None = None) -> UseReport:
    """Return what jobs used beside what they asked for, and what to ask for next time.

    Parameters
    ----------
    jobs
        Ids, names and folders, each as for `task_status`. Others than jobs that have ended are left
        out.
    batch
        In place of `jobs`: the id of a batch, four or more of its first digits, or its name.

    Returns
    -------
    UseReport

    Raises
    ------
    NotFoundError
        There is no such batch.
    TypeError, RefusedError
        Neither or both were given, or the name fits several batches.
    UnknownCallError
        The queue is older than this client and lacks this call.
    SettingsError, ServiceError
        A setting is missing or wrong, or the queue failed.
    """
    if (jobs is None) == (batch is None):
        raise RefusedError("Give either jobs or batch.")
    connection = settings.service_settings()
    with ReportClient(connection) as service:
        if jobs is not None:
            named = [one.jobid for one in task_status_many(jobs) if one.jobid is not None]
            found = list(service.of_jobs(list(dict.fromkeys(named))))
        else:
            found = list(service.of_batch(batch_id(connection, batch or "")))
    summed = report(found)
    return UseReport(
        jobs=[JobUse.of(job) for job in found],
        resources={one.name: one for one in summed.resources},
        cpu_efficiency=summed.cpu_efficiency,
    )
