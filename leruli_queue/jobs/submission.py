"""Submit jobs: authorise their users, check limits and capacity, explain each refusal.

:mod:`~leruli_queue.jobs.intake` stores the jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from leruli_queue.access.authenticate import SecretRefusedError, User
from leruli_queue.access.authorise import authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.backlog import Backlog
from leruli_queue.jobs.intake import NewJob, submit_jobs
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection

CANNOT_RUN_YET = (
    "The group has no compute secret yet, so no machine could run this job. An admin of the group "
    "sets it with group-rotate-compute-secret."
)


@dataclass(frozen=True)
class Submission:
    """A job with the API secret of the user who submits it."""

    secret: str
    job: NewJob


@dataclass(frozen=True)
class Submitted:
    """The results of many submissions."""

    # In the order of the submissions: the id of the job, or the error that refused it.
    results: Sequence[UUID | UserReportableError]
    # The key ids of the secrets if every secret is wrong, else empty.
    wrong_key_ids: Sequence[str | None]


def able_to_submit(user: User) -> User:
    """Return the user if the group has a compute secret, without which no job can run.

    Raises
    ------
    UserReportableError
        412 when the group has no compute secret yet.
    """
    if not user.group_has_compute_secret:
        raise UserReportableError(CANNOT_RUN_YET, status=412)
    return user


def within_limits(job: NewJob, settings: Settings) -> NewJob:
    """Return the job if it exceeds neither the operator's limits nor its own memory.

    Raises
    ------
    UserReportableError
        422 with the parameter that is too large.
    """
    rule = job.retry
    for name, asked, most in (
        ("cores", job.cores, settings.max_cores),
        ("memorymb", job.memory_mb, settings.max_memory_mb),
        ("timelimit", job.time_limit_s, settings.max_time_limit_s),
        ("diskmb", job.disk_mb, settings.max_disk_mb),
        ("retrymemorymb", rule.most_memory_mb if rule else None, settings.max_memory_mb),
        ("retrytimelimit", rule.most_time_limit_s if rule else None, settings.max_time_limit_s),
    ):
        if asked is not None and asked > most:
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


async def submit_one(connection: Connection, backlog: Backlog, submission: Submission) -> UUID:
    """Submit a job and return its id. The same job in the same bucket has the same id.

    Raises
    ------
    SecretRefusedError
        When the secret is malformed, unknown or revoked.
    UserReportableError
        403 when the group is disabled, 409 when the bucket has another job, 412 when the group has
        no compute secret, 503 when the backlog is full.
    """
    secret = submission.secret
    user = able_to_submit(await authorise_user(connection, Call.TASK_SUBMIT, secret))
    await backlog.check_capacity(connection, {(user.group_id, user.id): 1})
    [result] = await submit_jobs(connection, [(user, submission.job)])
    if result is None:
        raise await _refused_meanwhile(connection, Call.TASK_SUBMIT, secret)
    if isinstance(result, UserReportableError):
        raise result
    return result


async def submit_many(
    connection: Connection, backlog: Backlog, submissions: Sequence[Submission]
) -> Submitted:
    """Submit jobs of any users. A refused job does not stop the others.

    Raises
    ------
    UserReportableError
        503 when the backlog is full: then no job is accepted.
    """
    users = await _submitters(connection, {submission.secret for submission in submissions})
    jobs = [
        (user, submission.job)
        for submission in submissions
        if isinstance(user := users[submission.secret], User)
    ]
    if jobs:
        await backlog.check_capacity(
            connection, Counter((user.group_id, user.id) for user, _ in jobs)
        )
        stored = iter(await submit_jobs(connection, jobs))
    else:
        stored = iter(())
    results: list[UUID | UserReportableError] = []
    refused: dict[str, UserReportableError] = {}
    for submission in submissions:
        secret = submission.secret
        user = users[secret]
        result = next(stored) if isinstance(user, User) else user
        if result is None:
            if secret not in refused:
                refused[secret] = await _refused_meanwhile(
                    connection, Call.BULK_TASK_SUBMIT, secret
                )
            result = refused[secret]
        results.append(result)
    return Submitted(results, _all_wrong(users | refused))


async def _submitters(
    connection: Connection, secrets: Iterable[str]
) -> dict[str, User | UserReportableError]:
    """Return the user of each secret, or the error that refuses it."""
    users: dict[str, User | UserReportableError] = {}
    for secret in secrets:
        try:
            user = await authorise_user(connection, Call.BULK_TASK_SUBMIT, secret)
            users[secret] = able_to_submit(user)
        except UserReportableError as error:
            users[secret] = error
    return users


async def _refused_meanwhile(
    connection: Connection, call: Call, secret: str
) -> UserReportableError:
    """Return the error for a secret that was valid a moment ago and is not any more."""
    try:
        await authorise_user(connection, call, secret)
    except UserReportableError as error:
        return error
    return UserReportableError(
        "The group was disabled for a moment. No job was accepted; try again.",
        status=503,
        retry_after=1,
    )


def _all_wrong(users: Mapping[str, User | UserReportableError]) -> list[str | None]:
    """Return the key ids of the secrets, or none if one of the secrets is right.

    The answer to wrong secrets is delayed. With a right secret among them some jobs are stored, and
    their ids must not be delayed.
    """
    wrong = [user.key_id for user in users.values() if isinstance(user, SecretRefusedError)]
    return wrong if len(wrong) == len(users) else []
