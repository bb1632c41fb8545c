"""What a user asks of the queue: submit, status, cancel, buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from leruli.connection import Connection, Notice
from leruli.errors import LeruliError, RefusedError
from leruli.paging import Page, entries_of, pages
from leruli.redaction import remember
from leruli.settings import ServiceSettings
from leruli.states import FINAL

#: Jobs that the service takes in one bulk call at most.
BULK_LIMIT = 1000

# Seconds to go on trying: a submission is worth waiting for.
_PATIENCE_SUBMIT = 120.0

#: Why a job with a size of /dev/shm is not submitted to a service that would ignore it.
NO_SHM_SIZE = (
    "The queue is older than this client and cannot set the size of /dev/shm (--shm-size): the job "
    "would get 64 MB."
)


@dataclass(frozen=True)
class JobRequest:
    """What is submitted for one job."""

    bucket: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: int  #: seconds
    priority: int = 0  #: among one's own jobs, the highest first
    name: str = "default"  #: for people
    diskmb: int | None = None  #: None for the service's default
    shmmb: int | None = None  #: of /dev/shm; None for Docker's default, 64 MB

    def payload(self, secret: str) -> dict[str, Any]:
        """Return the body of a task-submit call."""
        payload = {
            "secret": secret,
            "bucketid": self.bucket,
            "name": self.name,
            "codeversion": f"{self.code}:{self.version}",
            "cores": self.cores,
            "memorymb": self.memorymb,
            "timelimit": self.timelimit,
            "priority": self.priority,
        }
        optional = {"diskmb": self.diskmb, "shmmb": self.shmmb}
        return payload | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class JobState:
    """The state of a job, and why if there is something to say."""

    status: str
    reason: str | None

    @property
    def is_final(self) -> bool:
        """Whether the job is over and its bucket will not change any more."""
        return self.status in FINAL

    def __str__(self) -> str:
        return self.status if self.reason is None else f"{self.status}: {self.reason}"


class Service:
    """The service as the holder of an API secret uses it; for several threads at once."""

    def __init__(self, settings: ServiceSettings, notice: Notice = lambda _: None) -> None:
        """`notice` is told, in a sentence, whenever a call has to wait."""
        self._connection = Connection(settings, notice)
        self._secret = settings.secret

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def submit(self, job: JobRequest) -> str:
        """Submit a job; returns its id. The same bucket again gives the same id."""
        answer = self._connection.call(
            "task-submit", job.payload(self._secret), patience=_PATIENCE_SUBMIT
        )
        return self._text(answer)

    def check(self, jobs: Sequence[JobRequest]) -> list[list[str] | LeruliError]:
        """Return for each job what is to be said of it, or why a submission would be refused.

        Nothing is submitted; the buckets of the jobs are not looked at. Raises UnknownCallError
        when the service is too old to tell.
        """
        found: list[list[str] | LeruliError] = []
        for start in range(0, len(jobs), BULK_LIMIT):
            asked = jobs[start : start + BULK_LIMIT]
            body = {"secret": self._secret, "jobs": [_without_bucket(job) for job in asked]}
            answer = self._connection.call("task-check", body, patience=_PATIENCE_SUBMIT)
            if not isinstance(answer, list) or len(answer) != len(asked):
                raise self._connection.nonsense()
            found += [self._checked_entry(job, entry) for job, entry in zip(asked, answer)]
        return found

    def submit_bulk(
        self, jobs: Sequence[JobRequest], progress: Callable[[], str] | None = None
    ) -> list[str | LeruliError]:
        """Submit up to `BULK_LIMIT` jobs; returns for each its id or why it was not accepted.

        With `progress`, which says in a sentence how far all is, the service is asked for as long
        as it answers that it should be asked again later.
        """
        _check_length(jobs)
        body = [job.payload(self._secret) for job in jobs]
        answer = self._connection.call(
            "bulk/task-submit", body, patience=_PATIENCE_SUBMIT, progress=progress
        )
        if not isinstance(answer, list) or len(answer) != len(jobs):
            raise self._connection.nonsense()
        return [self._bulk_entry(entry) for entry in answer]

    def status(self, jobid: str) -> JobState:
        """Return the state of a job; raises NotFoundError for unknown and for others' jobs."""
        return self._state(self._connection.call("task-status", self._about(jobid), jobid=jobid))

    def cancel(self, jobid: str) -> JobState:
        """Cancel a job; returns its state after that. Raises NotFoundError, RefusedError."""
        return self._state(self._connection.call("task-cancel", self._about(jobid), jobid=jobid))

    def statuses(self, jobids: Sequence[str]) -> list[JobState | LeruliError]:
        """Return the state of each of up to `BULK_LIMIT` jobs, or why it cannot be told."""
        return self._bulk_states("bulk/task-status", jobids)

    def cancel_many(self, jobids: Sequence[str]) -> list[JobState | LeruliError]:
        """Cancel up to `BULK_LIMIT` jobs; returns the state of each after that, or why not."""
        return self._bulk_states("bulk/task-cancel", jobids)

    def find_jobs(self, buckets: Sequence[str]) -> list[str | None]:
        """Return which of one's own jobs was submitted with each bucket; None where none was.

        Raises UnknownCallError when the service is too old to tell.
        """
        found: list[str | None] = []
        for start in range(0, len(buckets), BULK_LIMIT):
            asked = list(buckets[start : start + BULK_LIMIT])
            answer = self._connection.call(
                "bulk/task-find",
                {"secret": self._secret, "bucketids": asked},
                patience=_PATIENCE_SUBMIT,
            )
            if not isinstance(answer, list) or len(answer) != len(asked):
                raise self._connection.nonsense()
            found += [self._found_entry(entry) for entry in answer]
        return found

    def detail(self, jobid: str) -> dict[str, Any]:
        """Return all that the service knows of a job: docs/admins/api.md, task-detail.

        Raises NotFoundError, and UnknownCallError when the service is too old to tell.
        """
        answer = self._connection.call("task-detail", self._about(jobid), jobid=jobid)
        if not isinstance(answer, dict) or not isinstance(answer.get("state"), str):
            raise self._connection.nonsense()
        return answer

    def resolve(self, reference: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Return up to `limit` of one's own jobs that a reference names, and whether more do.

        A reference is at least four of the first or last digits of an id, or the name of a job.
        Each job has jobid, name, state and receivedat (ISO 8601). Raises UnknownCallError.
        """
        body = {"secret": self._secret, "reference": reference, "limit": limit}
        answer = self._connection.call("task-resolve", body)
        jobs = entries_of(self._connection, answer, "jobs")
        if not all(isinstance(job.get("jobid"), str) for job in jobs):
            raise self._connection.nonsense()
        return jobs, bool(answer.get("more"))

    def cancel_waiting(self, user: str | None = None) -> Iterator[int]:
        """Cancel all jobs that wait in the queue, one's own or, as an admin, a user's.

        Yields how many, step by step.
        """
        body: dict[str, Any] = {"secret": self._secret}
        if user is None:
            body["filter"] = {"states": ["received"]}
        else:
            # Not a field of the filter, which an older service would ignore.
            body["userfilter"] = {"states": ["received"], "user": user}
        while True:
            answer = self._connection.call("bulk/task-cancel", body, patience=_PATIENCE_SUBMIT)
            done = answer.get("cancelled") if isinstance(answer, dict) else None
            if not isinstance(done, int):
                raise self._connection.nonsense()
            if done == 0:
                return
            yield done

    def jobs(self, limit: int | None, after: str | None, **filters: Any) -> Iterator[Page]:
        """Yield one's own jobs, the newest first, up to `limit`; None: to the end.

        `filters` are states, since and until (ISO 8601, by when a job was received).
        """
        body = {"secret": self._secret, **filters}
        return pages(self._connection, "task-list", body, "jobs", limit, after)

    def bucket(self, jobid: str, purpose: str = "get") -> str:
        """Return the bucket of a job: of one's own, for an admin of any of the group.

        `purpose` is "get" or "purge": what an admin does with another's job is written down.
        """
        answer = self._connection.call(
            "task-bucket", {**self._about(jobid), "purpose": purpose}, jobid=jobid
        )
        return self._text(answer.get("bucketid") if isinstance(answer, dict) else None)

    def group_token(self, *, is_submitting: bool = False) -> str:
        """Return the token of the caller's group, which names its bucket of images.

        `is_submitting`: it is the first call of a submission, which is worth waiting for.
        """
        return self._text(self._about_images("group-token", is_submitting=is_submitting))

    def image_tokens(self, *, is_submitting: bool = False) -> list[str]:
        """Return the tokens whose buckets may hold images: the group token, then rotated ones.

        Raises UnknownCallError.
        """
        answer = self._about_images("group-image-tokens", is_submitting=is_submitting)
        return tokens_of(self._connection, answer)

    def _about_images(self, path: str, *, is_submitting: bool) -> Any:
        body = {"secret": self._secret}
        if is_submitting:
            return self._connection.call(path, body, patience=_PATIENCE_SUBMIT)
        return self._connection.call(path, body)

    def _about(self, jobid: str) -> dict[str, str]:
        return {"secret": self._secret, "jobid": jobid}

    def _text(self, answer: Any) -> str:
        if not isinstance(answer, str):
            raise self._connection.nonsense()
        return answer

    def _state(self, answer: Any) -> JobState:
        if not isinstance(answer, dict) or not isinstance(answer.get("status"), str):
            raise self._connection.nonsense()
        reason = answer.get("reason")
        return JobState(answer["status"], None if reason is None else str(reason))

    def _bulk_states(self, path: str, jobids: Sequence[str]) -> list[JobState | LeruliError]:
        _check_length(jobids)
        body = {"secret": self._secret, "jobids": list(jobids)}
        answer = self._connection.call(path, body, patience=_PATIENCE_SUBMIT)
        if not isinstance(answer, list) or len(answer) != len(jobids):
            raise self._connection.nonsense()
        return [self._state_entry(jobid, entry) for jobid, entry in zip(jobids, answer)]

    def _state_entry(self, jobid: str, entry: Any) -> JobState | LeruliError:
        if not isinstance(entry, dict) or not isinstance(entry.get("status"), int):
            raise self._connection.nonsense()
        if entry["status"] == 200:
            return self._state(entry.get("data"))
        return self._connection.refusal(entry["status"], entry.get("data"), jobid=jobid)

    def _found_entry(self, entry: Any) -> str | None:
        status = entry.get("status") if isinstance(entry, dict) else None
        if status == 404:
            return None
        if status != 200:
            raise self._connection.nonsense()
        return self._text(entry.get("data"))

    def _checked_entry(self, job: JobRequest, entry: Any) -> list[str] | LeruliError:
        status = entry.get("status") if isinstance(entry, dict) else None
        if not isinstance(status, int):
            raise self._connection.nonsense()
        data = entry.get("data")
        if status == 200 and isinstance(data, dict) and isinstance(data.get("warnings"), list):
            # A service that does not know the field does not repeat it.
            if data.get("shmmb") != job.shmmb:
                return RefusedError(NO_SHM_SIZE)
            return [str(one) for one in data["warnings"]]
        return self._connection.refusal(status, data)

    def _bulk_entry(self, entry: Any) -> str | LeruliError:
        if not isinstance(entry, dict) or not isinstance(entry.get("status"), int):
            raise self._connection.nonsense()
        data = entry.get("data")
        if entry["status"] == 200 and isinstance(data, str):
            return data
        return self._connection.refusal(entry["status"], data or entry.get("detail"))


def tokens_of(connection: Connection, answer: Any) -> list[str]:
    """Return what group-image-tokens answered; they are hidden from here on."""
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    if not tokens or not all(isinstance(one, str) for one in tokens):
        raise connection.nonsense()
    for token in tokens:
        remember(token)
    return list(tokens)


def _without_bucket(job: JobRequest) -> dict[str, Any]:
    payload = job.payload("")
    del payload["secret"], payload["bucketid"]
    return payload


def _check_length(jobs: Sequence[Any]) -> None:
    if len(jobs) > BULK_LIMIT:
        raise ValueError(f"at most {BULK_LIMIT} jobs in a call, not {len(jobs)}")
