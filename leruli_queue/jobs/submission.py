"""Submits jobs: whose they are, what they may ask for, whether there is room, and why not.

:mod:`~leruli_queue.jobs.intake` stores them.
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
from leruli_queue.jobs.intake import NewJob, take_in
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection

CANNOT_RUN_YET = (
    "The group has no compute secret yet, so no machine could run this job. An admin of the group "
    "sets it with group-rotate-compute-secret."
)


@dataclass(frozen=True)
class Submission:
    """A job, and the API secret of the user who submits it."""

    secret: str
    job: NewJob


@dataclass(frozen=True)
class Submitted:
    """What became of many submissions."""

    # In their order: the id of the job, or why it was refused.
    results: Sequence[UUID | UserReportableError]
    # The key ids of the secrets, if every one of them is wrong.
    wrong_key_ids: Sequence[str | None]


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


async def submit_one(connection: Connection, backlog: Backlog, submission: Submission) -> UUID:
    """Submit a job and return its id. The same job in the same bucket has the same id.

    Raises
    ------
    SecretRefusedError
        When the secret is malformed, unknown or revoked.
    UserReportableError
        403 when the group is disabled, 409 when the bucket has another job, 412 when the group has
        no compute secret, 503 when too many jobs wait.
    """
    secret = submission.secret
    user = able_to_submit(await authorise_user(connection, Call.TASK_SUBMIT, secret))
    await backlog.make_room(connection, {(user.group_id, user.id): 1})
    [result] = await take_in(connection, [(user, submission.job)])
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
        503 when too many jobs wait: then none is taken.
    """
    users = await _submitters(connection, {submission.secret for submission in submissions})
    jobs = [
        (user, submission.job)
        for submission in submissions
        if isinstance(user := users[submission.secret], User)
    ]
    if jobs:
        await backlog.make_room(connection, Counter((user.group_id, user.id) for user, _ in jobs))
        taken = iter(await take_in(connection, jobs))
    else:
        taken = iter(())
    results: list[UUID | UserReportableError] = []
    refused: dict[str, UserReportableError] = {}
    for submission in submissions:
        secret = submission.secret
        user = users[secret]
        result = next(taken) if isinstance(user, User) else user
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
    """Authorise each secret."""
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
    """Say why nothing was taken in under a secret that was right a moment ago."""
    try:
        await authorise_user(connection, call, secret)
    except UserReportableError as error:
        return error
    return UserReportableError(
        "The group was disabled for a moment. Nothing was taken; try again.",
        status=503,
        retry_after=1,
    )


def _all_wrong(users: Mapping[str, User | UserReportableError]) -> list[str | None]:
    """Return the key ids of the secrets, or none if one of the secrets is right.

    A wrong secret holds back the whole answer. With a right one beside it the jobs are in, and
    their ids must not be held back.
    """
    wrong = [user.key_id for user in users.values() if isinstance(user, SecretRefusedError)]
    return wrong if len(wrong) == len(users) else []
