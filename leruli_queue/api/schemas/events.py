"""Bodies and answers of the calls about events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints

from leruli_queue.api.schemas.bulk import JobIds
from leruli_queue.api.schemas.common import A_NUMBER, MAX_PAGE, Body, Limit, WithSecret
from leruli_queue.api.schemas.groups import BatchReference, WithGroupToken
from leruli_queue.jobs.events import Event, Page
from leruli_queue.jobs.states import JobState

MAX_WAIT_S = 60

# Both numbers are below 2**63.
CursorText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$", max_length=37)]


class Following(Body):
    """Which events to read, and how long to wait for one."""

    cursor: CursorText | None = Field(
        None,
        description="The `cursor` of the last answer. Without it the answer has no event, and a "
        "cursor from which to go on.",
    )
    states: list[JobState] | None = Field(
        None, max_length=len(JobState), description="Only changes to these states."
    )
    limit: Limit = MAX_PAGE
    wait: Annotated[float, Field(ge=0, le=MAX_WAIT_S, allow_inf_nan=False), A_NUMBER] = Field(
        0.0,
        description="Seconds to wait for an event if there is none. A service with very many "
        "waiting calls answers sooner.",
    )


class TaskEvents(Following, WithSecret):
    """Which events of the user's own jobs to read."""

    jobids: JobIds | None = Field(
        None,
        fail_fast=True,
        description="Only events of these jobs, at most LERULI_QUEUE_MAX_BULK.",
    )
    batchid: UUID | None = Field(None, description="Only events of jobs of this batch.")


class GroupEvents(Following, WithGroupToken):
    """Which events of the group's jobs to read."""

    batch: BatchReference | None = None


class GroupEvent(BaseModel):
    """A job's change of state, without the job's bucket."""

    number: int = Field(
        description="Of two events of one job, the one with the higher number is the later one."
    )
    jobid: UUID
    user: str
    name: str = Field(description="The job's name, as its user gave it.")
    state: JobState
    reason: str | None = Field(
        description="Why the state changed. What a waiting job waits for now, task-status says."
    )
    exitcode: int | None
    attempt: int = Field(description="Number of the job's attempt; 0 before the first.")
    at: datetime
    batchid: UUID | None = Field(description="Its batch. Null: it has none.")
    batchname: str | None

    @classmethod
    def of(cls, event: Event) -> GroupEvent:
        """Return the answer about an event."""
        return cls(**_fields(event))


class TaskEvent(GroupEvent):
    """A change of state of an own job."""

    bucketid: str

    @classmethod
    def of(cls, event: Event) -> TaskEvent:
        """Return the answer about an event."""
        return cls(**_fields(event), bucketid=event.bucket)


class _Answer(BaseModel):
    cursor: str = Field(description="Send it with the next call.")
    more: bool = Field(description="Whether there may be more events already.")


class TaskEventsAnswer(_Answer):
    """Events of own jobs, in the order of the transactions that made them."""

    events: list[TaskEvent]

    @classmethod
    def of(cls, page: Page) -> TaskEventsAnswer:
        """Return the answer with a page."""
        events = [TaskEvent.of(event) for event in page.events]
        return cls(events=events, cursor=str(page.cursor), more=page.more)


class GroupEventsAnswer(_Answer):
    """Events of the group's jobs, in the order of the transactions that made them."""

    events: list[GroupEvent]

    @classmethod
    def of(cls, page: Page) -> GroupEventsAnswer:
        """Return the answer with a page."""
        events = [GroupEvent.of(event) for event in page.events]
        return cls(events=events, cursor=str(page.cursor), more=page.more)


def _fields(event: Event) -> dict[str, object]:
    return {
        "number": event.number,
        "jobid": event.job_id,
        "user": event.user,
        "name": event.name,
        "state": event.state,
        "reason": event.reason,
        "exitcode": event.exit_code,
        "attempt": event.attempt,
        "at": event.at,
        "batchid": event.batch_id,
        "batchname": event.batch_name,
    }
