"""The calls that a user makes with an API secret: submit, status, cancel, buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from leruli.errors import LeruliError, RefusedError
from leruli.redaction import remember
from leruli.service.connection import Connection
from leruli.service.mail import MailCaller
from leruli.service.paging import Page, check_batches, entries_of, pages, pages_of_batch
from leruli.service.retry_rule import NO_RULE, RetryRule
from leruli.service.states import FINAL

#: Jobs that the service takes in one bulk call at most.
BULK_LIMIT = 1000

# Longer than for other calls: a submission is worth waiting for.
_SUBMIT_RETRY_FOR_S = 120.0

#: The refusal of a job with a size of /dev/shm by a service that would ignore the size.
NO_SHM_SIZE = (
    "The queue is older than this client and cannot set the size of /dev/shm (--shm-size): the job "
    "would get 64 MB."
)

#: The refusal of a job with a retry rule by a service that would ignore the rule.
NO_RETRY = (
    "The queue is older than this client and cannot try a job again (--retry): the job would fail "
    "after its first attempt."
)


@dataclass(frozen=True)
class JobRequest:
    """One job as it is submitted."""

    bucket: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: int  #: seconds
    priority: int = 0  #: among the jobs of one user; the highest goes first
    name: str = "default"  #: shown to people
    diskmb: int | None = None  #: None: the default of the service
    shmmb: int | None = None  #: size of /dev/shm; None: Docker's default, 64 MB
    #: Whether the job may run in the container of the user's job before it.
    share_container: bool = False
    batch: tuple[str, str] | None = None  #: id and name of the batch that the job joins
    rule: RetryRule = NO_RULE  #: when the job is tried again after a failure

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
        optional = {
            "diskmb": self.diskmb,
            "shmmb": self.shmmb,
            # An older service ignores it. Its jobs have containers of their own, and end alike.
            "sharecontainer": self.share_container or None,
            # An older service ignores both.
            "batchid": self.batch and self.batch[0],
            "batchname": self.batch and self.batch[1],
            **self.rule.payload(),
        }
        return payload | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class EventPage:
    """Events after a cursor: changes of the states of jobs, as the service answers them."""

    events: list[dict[str, Any]]
    cursor: str  #: where the next page begins
    more: bool  #: whether there may be further events already

    @classmethod
    def of(cls, connection: Connection, answer: Any) -> EventPage:
        """Read an answer of task-events or group-events. Raises ServiceError."""
        events = entries_of(connection, answer, "events")
        cursor = answer.get("cursor")
        for event in events:
            if not isinstance(event.get("jobid"), str) or not isinstance(event.get("state"), str):
                raise connection.nonsense()
        if not isinstance(cursor, str):
            raise connection.nonsense()
        return cls(events, cursor, bool(answer.get("more")))


@dataclass(frozen=True)
class Followed:
    """The answer to task-follow: the state of a job, and its newest attempt."""

    state: JobState
    attempt: int | None  #: None: it has none yet


@dataclass(frozen=True)
class JobState:
    """The state of a job, and the reason if there is one."""

    status: str
    reason: str | None

    @property
    def is_final(self) -> bool:
        """Whether the job is over, so that its bucket changes no more."""
        return self.status in FINAL

    def __str__(self) -> str:
        return self.status if self.reason is None else f"{self.status}: {self.reason}"


class QueueClient(MailCaller):
    """Calls the service with an API secret; safe for several threads."""

    def submit(self, job: JobRequest) -> str:
        """Submit a job and return its id. Repeated with the same bucket it returns the same id."""
        answer = self._connection.call(
            "task-submit", job.payload(self._secret), retry_for_s=_SUBMIT_RETRY_FOR_S
        )
        return self._text(answer)

    def check(self, jobs: Sequence[JobRequest]) -> list[list[str] | LeruliError]:
        """Return for each job its warnings, or the error that would refuse it.

        Nothing is submitted, and the buckets of the jobs are ignored. Raises UnknownCallError for a
        service that is too old for this call.
        """
        found: list[list[str] | LeruliError] = []
        for start in range(0, len(jobs), BULK_LIMIT):
            asked = jobs[start : start + BULK_LIMIT]
            body = {"secret": self._secret, "jobs": [_without_bucket(job) for job in asked]}
            answer = self._connection.call("task-check", body, retry_for_s=_SUBMIT_RETRY_FOR_S)
            if not isinstance(answer, list) or len(answer) != len(asked):
                raise self._connection.nonsense()
            found += [self._checked_entry(job, entry) for job, entry in zip(asked, answer)]
        return found

    def submit_bulk(
        self, jobs: Sequence[JobRequest], progress: Callable[[], str] | None = None
    ) -> list[str | LeruliError]:
        """Submit up to `BULK_LIMIT` jobs; return for each its id or the error that refused it.

        `progress` returns a sentence that says how far the whole batch is. With it the call is
        repeated as long as the service asks to come back later.
        """
        _check_length(jobs)
        body = [job.payload(self._secret) for job in jobs]
        answer = self._connection.call(
            "bulk/task-submit", body, retry_for_s=_SUBMIT_RETRY_FOR_S, progress=progress
        )
        if not isinstance(answer, list) or len(answer) != len(jobs):
            raise self._connection.nonsense()
        return [self._bulk_entry(entry) for entry in answer]

    def status(self, jobid: str) -> JobState:
        """Return the state of a job; raises NotFoundError for unknown and for others' jobs."""
        return self._state(self._connection.call("task-status", self._about(jobid), jobid=jobid))

    def follow(self, jobid: str) -> Followed:
        """Ask for live output of a job for the next 30 seconds, and return its state.

        Raises NotFoundError, and UnknownCallError for a service that is too old for this call.
        """
        answer = self._connection.call("task-follow", self._about(jobid), jobid=jobid)
        attempt = answer.get("attempt") if isinstance(answer, dict) else None
        if attempt is not None and not isinstance(attempt, int):
            raise self._connection.nonsense()
        if isinstance(answer, dict):
            answer = {"status": answer.get("state"), "reason": answer.get("reason")}
        return Followed(self._state(answer), attempt)

    def cancel(self, jobid: str) -> JobState:
        """Cancel a job and return its new state. Raises NotFoundError, RefusedError."""
        return self._state(self._connection.call("task-cancel", self._about(jobid), jobid=jobid))

    def statuses(self, jobids: Sequence[str]) -> list[JobState | LeruliError]:
        """Return the state of each of up to `BULK_LIMIT` jobs, or the error."""
        return self._bulk_states("bulk/task-status", jobids)

    def cancel_many(self, jobids: Sequence[str]) -> list[JobState | LeruliError]:
        """Cancel up to `BULK_LIMIT` jobs; return the new state of each, or the error."""
        return self._bulk_states("bulk/task-cancel", jobids)

    def find_jobs(self, buckets: Sequence[str]) -> list[str | None]:
        """Return for each bucket the caller's job that was submitted with it, None without one.

        Raises UnknownCallError for a service that is too old for this call.
        """
        found: list[str | None] = []
        for start in range(0, len(buckets), BULK_LIMIT):
            asked = list(buckets[start : start + BULK_LIMIT])
            answer = self._connection.call(
                "bulk/task-find",
                {"secret": self._secret, "bucketids": asked},
                retry_for_s=_SUBMIT_RETRY_FOR_S,
            )
            if not isinstance(answer, list) or len(answer) != len(asked):
                raise self._connection.nonsense()
            found += [self._found_entry(entry) for entry in answer]
        return found

    def detail(self, jobid: str) -> dict[str, Any]:
        """Return everything that the service knows about a job: docs/admins/api.md, task-detail.

        Raises NotFoundError, and UnknownCallError for a service that is too old for this call.
        """
        answer = self._connection.call("task-detail", self._about(jobid), jobid=jobid)
        if not isinstance(answer, dict) or not isinstance(answer.get("state"), str):
            raise self._connection.nonsense()
        return answer

    def resolve(self, reference: str, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Return up to `limit` of the caller's jobs that match a reference, and if there are more.

        A reference is the name of a job, or at least four of the first or last digits of an id.
        Each job has jobid, name, state and receivedat (ISO 8601). Raises UnknownCallError.
        """
        body = {"secret": self._secret, "reference": reference, "limit": limit}
        answer = self._connection.call("task-resolve", body)
        jobs = entries_of(self._connection, answer, "jobs")
        if not all(isinstance(job.get("jobid"), str) for job in jobs):
            raise self._connection.nonsense()
        return jobs, bool(answer.get("more"))

    def cancel_waiting(self, user: str | None = None) -> Iterator[int]:
        """Cancel the caller's backlog, or as an admin that of `user`.

        Yields the number of cancelled jobs, call by call.
        """
        body: dict[str, Any] = {"secret": self._secret}
        if user is None:
            body["filter"] = {"states": ["received"]}
        else:
            # A field inside the filter would be ignored by an older service.
            body["userfilter"] = {"states": ["received"], "user": user}
        while True:
            answer = self._connection.call(
                "bulk/task-cancel", body, retry_for_s=_SUBMIT_RETRY_FOR_S
            )
            done = answer.get("cancelled") if isinstance(answer, dict) else None
            if not isinstance(done, int):
                raise self._connection.nonsense()
            if done == 0:
                return
            yield done

    def jobs(self, limit: int | None, after: str | None, **filters: Any) -> Iterator[Page]:
        """Yield the caller's jobs, the newest first, up to `limit` (None: all).

        `filters` are states, batchid, since and until (ISO 8601, the time when a job was received).
        Raises UnknownCallError for a service that cannot choose by batch.
        """
        body = {"secret": self._secret, **filters}
        found = pages(self._connection, "task-list", body, "jobs", limit, after)
        return pages_of_batch(found, body)

    def events(self, cursor: str | None, wait_s: float = 0.0, **filters: Any) -> EventPage:
        """Return what changed among the caller's jobs after a cursor; wait if nothing did.

        Without a cursor the page is empty, and its cursor is the place from which to go on.
        `filters` are jobids, batchid, states and limit. Raises OldCursorError, and UnknownCallError
        for a service that is too old for this call, or cannot choose by batch.
        """
        body = {"secret": self._secret, "cursor": cursor, "wait": wait_s, **filters}
        page = EventPage.of(self._connection, self._connection.call("task-events", body))
        check_batches(page.events, body)
        return page

    def bucket(self, jobid: str, purpose: str = "get") -> str:
        """Return the bucket of one of the caller's jobs, for an admin of any job of the group.

        `purpose` is "get" or "purge". The audit log records what an admin does with others' jobs.
        """
        answer = self._connection.call(
            "task-bucket", {**self._about(jobid), "purpose": purpose}, jobid=jobid
        )
        return self._text(answer.get("bucketid") if isinstance(answer, dict) else None)

    def group_token(self, *, is_submitting: bool = False) -> str:
        """Return the token of the caller's group, which names its bucket of images.

        `is_submitting` makes the retry time that of a submission.
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
            return self._connection.call(path, body, retry_for_s=_SUBMIT_RETRY_FOR_S)
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
        answer = self._connection.call(path, body, retry_for_s=_SUBMIT_RETRY_FOR_S)
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
            # A service that does not know the field leaves it out of its answer.
            if data.get("shmmb") != job.shmmb:
                return RefusedError(NO_SHM_SIZE)
            if job.rule.retry and data.get("retry") != job.rule.retry:
                return RefusedError(NO_RETRY)
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
    """Return the tokens in an answer of group-image-tokens; redaction hides them from now on."""
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
