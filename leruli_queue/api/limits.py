"""What a submission has to keep to: the operator's limits, and a group that can run jobs."""

from __future__ import annotations

from leruli_queue.access.authenticate import User
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.intake import NewJob
from leruli_queue.settings import Settings

CANNOT_RUN_YET = (
    "The group has no compute secret yet, so no machine could run this job. An admin of the group "
    "sets it with group-rotate-compute-secret."
)


def able_to_submit(user: User) -> User:
    """Return the user, whose group can run jobs.

    Raises
    ------
    UserReportableError
        412 when the group has no compute secret yet.
    """
    if not user.group_has_compute_secret:
        raise UserReportableError(CANNOT_RUN_YET, status=412)
    return user


def within_limits(job: NewJob, settings: Settings) -> NewJob:
    """Return the job, which asks for no more than the operator allows and its memory holds.

    Raises
    ------
    UserReportableError
        422 with the parameter that is too large.
    """
    for name, asked, most in (
        ("cores", job.cores, settings.max_cores),
        ("memorymb", job.memory_mb, settings.max_memory_mb),
        ("timelimit", job.time_limit_s, settings.max_time_limit_s),
        ("diskmb", job.disk_mb or 0, settings.max_disk_mb),
    ):
        if asked > most:
            raise UserReportableError(
                f"Parameter {name}: {asked} is more than this service takes ({most}).", status=422
            )
    if job.shm_mb is not None and job.shm_mb > job.memory_mb:
        raise UserReportableError(
            f"Parameter shmmb: {job.shm_mb} is more than the memory of the job (memorymb: "
            f"{job.memory_mb}). What a job writes to /dev/shm counts as its memory: ask for a "
            "smaller /dev/shm or for more memory.",
            status=422,
        )
    return job
