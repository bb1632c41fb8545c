"""The results of the Python functions: jobs, and the outcome for many folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from leruli.errors import ServiceError
from leruli.service.states import ACTIVE
from leruli.times import parse_moment

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class JobStatus:
    """The state of one of many jobs."""

    job: str  #: as the caller named it: a folder, an id or a name
    jobid: str | None  #: None for a folder without a job
    #: One of the six states of a job, or "copy", "edited", "not submitted" or "unknown".
    state: str
    reason: str | None  #: a sentence on the state
    #: The state of the job itself, also for a copied or edited folder; None if it was not read.
    job_state: str | None

    @property
    def is_active(self) -> bool:
        """Whether the job is received, submitted or running."""
        return self.job_state in ACTIVE


@dataclass(frozen=True)
class Job:
    """A job of a listing."""

    jobid: str
    user: str | None
    name: str
    code: str
    version: str
    cores: int
    memory_mb: int  #: memory limit, MB
    disk_mb: int | None  #: disk limit, MB; None: the service's default
    shm_mb: int | None  #: size of /dev/shm, MB; None: 64
    share_container: bool  #: whether it may run in the container of the user's job before it
    state: str
    reason: str | None
    exit_code: int | None  #: exit code of the command
    attempt_count: int
    received_at: datetime
    submitted_at: datetime | None  #: when it was dispatched
    running_at: datetime | None  #: when its command started
    ended_at: datetime | None
    batch_id: str | None  #: of its batch; None: it has none
    batch_name: str | None

    @property
    def is_active(self) -> bool:
        """Whether the job is received, submitted or running."""
        return self.state in ACTIVE

    @property
    def run_seconds(self) -> float | None:
        """Seconds from the start of the command to the end of the job; None until then."""
        if self.running_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.running_at).total_seconds()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Job:
        """Read an entry of a listing of the service. Raises ServiceError."""
        return read_answer(lambda: cls(**_common(answer), attempt_count=int(answer["attempts"])))


@dataclass(frozen=True)
class Attempt:
    """One attempt to run a job. If its machine fails, a job gets another attempt elsewhere."""

    number: int  #: counted from 1
    node: str | None  #: name of its machine; None until it has one
    #: "waiting", "started", "running", "stopping", "ended" or "stopped": docs/admins/api.md
    state: str
    outcome: str | None  #: as in the receipt of its machine
    message: str | None  #: the machine's message, or why the attempt was abandoned
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    peak_memory_mb: int | None  #: MB
    cpu_seconds: float | None  #: s, summed over all cores
    memory_mb: int | None  #: its memory limit, MB; None: the queue is older
    time_limit_seconds: int | None  #: its time limit, s; None: the queue is older


@dataclass(frozen=True)
class Retry:
    """The retry rule of a job, and how far it is."""

    most: int  #: how often the job may be tried again
    used: int  #: how often it was; failures of machines do not count
    ends: tuple[str, ...]  #: "out-of-memory", "time-limit", "exit=CODE" or "exit=any"
    most_memory_mb: int | None  #: up to which the memory is doubled, MB; None: it stays
    most_time_limit_seconds: int | None  #: up to which the time is doubled, s; None: it stays
    first_memory_mb: int  #: what the submission asked for, MB
    first_time_limit_seconds: int  #: what the submission asked for, s


@dataclass(frozen=True)
class JobDetail(Job):
    """All details of a job."""

    time_limit_seconds: int
    priority: int
    cancel_requested_at: datetime | None
    node: str | None  #: name of the machine of the last attempt that started
    peak_memory_mb: int | None  #: MB, of the same attempt
    cpu_seconds: float | None  #: s, summed over all cores, of the same attempt
    attempts: tuple[Attempt, ...]  #: the last 100, the oldest first
    #: The command, as one line of bash. None unless the job was named by a folder with its record.
    command: str | None
    #: Its retry rule; None without one. With a rule, `memory_mb` and `time_limit_seconds` are those
    #: of the last attempt, or of the next one while it waits.
    retry: Retry | None

    @classmethod
    def of_detail(cls, answer: Mapping[str, Any], command: str | None) -> JobDetail:
        """Read the answer of task-detail. Raises ServiceError."""

        def build() -> JobDetail:
            attempts = tuple(_attempt(one) for one in answer["attempts"])
            return cls(
                **_common(answer),
                attempt_count=attempts[-1].number if attempts else 0,
                time_limit_seconds=answer["timelimit"],
                priority=answer["priority"],
                cancel_requested_at=moment(answer.get("cancelrequestedat")),
                node=answer.get("node"),
                peak_memory_mb=answer.get("peakmemorymb"),
                cpu_seconds=answer.get("cpuseconds"),
                attempts=attempts,
                command=command,
                retry=None if answer.get("retry") is None else _retry(answer["retry"]),
            )

        return read_answer(build)


@dataclass(frozen=True)
class ManyFolders:
    """The outcome for many folders."""

    done: tuple[str, ...]
    skipped: Mapping[str, str]  #: folder: why, in a few words
    failed: Mapping[str, str]  #: folder: why, in a sentence
    #: Folders that were done, and what a person has to check, in sentences.
    to_look_at: Mapping[str, str]


def _common(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "jobid": str(answer["jobid"]),
        "user": answer.get("user"),
        "name": answer["name"],
        "code": answer["code"],
        "version": answer["version"],
        "cores": answer["cores"],
        "memory_mb": answer["memorymb"],
        "disk_mb": answer.get("diskmb"),
        "shm_mb": answer.get("shmmb"),
        "share_container": bool(answer.get("sharecontainer")),
        "state": answer["state"],
        "reason": answer.get("reason"),
        "exit_code": answer.get("exitcode"),
        "received_at": parse_moment(answer["receivedat"]),
        "submitted_at": moment(answer.get("submittedat")),
        "running_at": moment(answer.get("runningat")),
        "ended_at": moment(answer.get("endedat")),
        "batch_id": answer.get("batchid"),
        "batch_name": answer.get("batchname"),
    }


def _attempt(answer: Mapping[str, Any]) -> Attempt:
    return Attempt(
        number=answer["number"],
        node=answer.get("node"),
        state=answer["state"],
        outcome=answer.get("outcome"),
        message=answer.get("message"),
        started_at=moment(answer.get("startedat")),
        ended_at=moment(answer.get("endedat")),
        exit_code=answer.get("exitcode"),
        peak_memory_mb=answer.get("peakmemorymb"),
        cpu_seconds=answer.get("cpuseconds"),
        memory_mb=answer.get("memorymb"),
        time_limit_seconds=answer.get("timelimit"),
    )


def _retry(answer: Mapping[str, Any]) -> Retry:
    return Retry(
        most=answer["most"],
        used=answer["used"],
        ends=tuple(answer["on"]),
        most_memory_mb=answer.get("memorymb"),
        most_time_limit_seconds=answer.get("timelimit"),
        first_memory_mb=answer["firstmemorymb"],
        first_time_limit_seconds=answer["firsttimelimit"],
    )


def moment(value: str | None) -> datetime | None:
    """Return a moment of an answer; raises ValueError."""
    return None if value is None else parse_moment(value)


def read_answer(build: Callable[[], _Read]) -> _Read:
    """Return what `build` makes of an answer of the service. Raises ServiceError."""
    try:
        return build()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServiceError(
            f"The queue's answer is not as expected ({type(error).__name__}: {error})."
        ) from error
