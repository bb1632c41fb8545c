"""Bodies and answers of the calls about a group."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    field_validator,
    model_validator,
)

from leruli_queue.access.audit import Action
from leruli_queue.access.roles import Role
from leruli_queue.api.schemas.common import (
    A_NUMBER,
    MAX_WHOLE,
    Body,
    Label,
    Limit,
    SecretText,
    Time,
    WithAdminSecret,
    given,
)
from leruli_queue.api.schemas.tasks import ActivityJob
from leruli_queue.groups.names import NAME_PATTERN, check_name
from leruli_queue.groups.usage import Dimension
from leruli_queue.jobs.states import JobState

_NAME_SCHEMA: dict[str, Any] = {"pattern": f"^{NAME_PATTERN}$", "not": {"pattern": "  "}}


class CreateUser(WithAdminSecret):
    """A user to create."""

    name: str = Field(max_length=200, json_schema_extra=_NAME_SCHEMA)
    admin: StrictBool = Field(False, description="Whether the user is an admin.")

    @field_validator("name")
    @classmethod
    def _is_allowed(cls, value: str) -> str:
        check_name("user", value)  # raises with a better sentence than a pattern's
        return value


class RevokeUser(WithAdminSecret):
    """A user whose secret is revoked, by name or by key id."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [given("name", but_not=("keyid",)), given("keyid", but_not=("name",))]
        }
    )

    name: Label | None = None
    keyid: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{10}$")] | None = Field(
        None, description="Key id of the secret, as secret-find and group-list-users print it."
    )

    @model_validator(mode="after")
    def _means_one(self) -> RevokeUser:
        if (self.name is None) == (self.keyid is None):
            raise ValueError("it needs the name of a user or the keyid of a secret, not both")
        return self


class RevokeUserAnswer(BaseModel):
    """The user is revoked. Every call that began with the secret has ended."""

    name: str
    revokedat: datetime


class ListUsers(WithAdminSecret):
    """Which users to list."""

    revoked: StrictBool = Field(False, description="Whether to list revoked users, too.")


class ListedUser(BaseModel):
    """A user, without the secret."""

    name: str
    role: Role
    keyid: str = Field(description="The secret's key id, which is not secret.")
    createdat: datetime
    lastusedat: datetime | None = Field(description="To the minute.")
    revokedat: datetime | None


class ListUsersAnswer(BaseModel):
    """The users of the group by name; revoked users come last."""

    users: list[ListedUser]


class RotateToken(WithAdminSecret):
    """A rotation of the group token."""

    prepare: StrictBool = Field(
        False, description="Only make the next token and answer it; the present one stays valid."
    )
    newtoken: SecretText | None = Field(
        None,
        description="The prepared token that becomes valid. With it the call can be repeated.",
    )


class ImageTokensAnswer(BaseModel):
    """The tokens of the buckets `code-<token>` that may hold the group's images."""

    tokens: list[str] = Field(description="The group token, then older ones, the newest first.")


class ImagesMoved(WithAdminSecret):
    """A note that the buckets of older tokens are gone."""

    grouptoken: SecretText | None = Field(
        None,
        description="The token whose bucket has all images. Refused if it was rotated meanwhile.",
    )


class ImagesMovedAnswer(BaseModel):
    """The service has forgotten the older tokens."""

    forgotten: int = Field(description="Number of tokens that were forgotten.")


class WithGroupToken(Body):
    """A body that is authorised by a group token."""

    grouptoken: SecretText = Field(description="Group token; a user gets it by group-token.")


BatchReference = Annotated[
    Label,
    Field(
        min_length=1,
        description="Only jobs of batches with this name, or whose id begins with these digits, at "
        "least 4.",
    ),
]


class Activity(WithGroupToken):
    """Which jobs of the group to list."""

    states: list[JobState] | None = Field(None, max_length=len(JobState))
    user: Label | None = Field(None, description="Only jobs of users who ever had this name.")
    batch: BatchReference | None = None
    since: Time | None = Field(None, description="Jobs received at this time or later.")
    until: Time | None = Field(None, description="Jobs received before this time.")
    limit: Limit = 100
    after: UUID | None = Field(None, description="The `next` of the page before.")


class ActivityAnswer(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[ActivityJob]
    next: UUID | None = Field(description="Send it as `after` for the next page; null: no more.")


class UsageFormat(StrEnum):
    """The format of the answer."""

    JSON = "json"
    CSV = "csv"


class Usage(WithGroupToken):
    """Which usage to sum up."""

    by: list[Dimension] = Field(
        [Dimension.USER, Dimension.CODE, Dimension.MONTH],
        max_length=len(Dimension),
        description="Dimensions to group by.",
    )
    batch: BatchReference | None = None
    since: Time | None = Field(None, description="Jobs that ended at this time or later.")
    until: Time | None = Field(None, description="Jobs that ended before this time.")
    format: UsageFormat = UsageFormat.JSON


class UsageAnswerRow(BaseModel):
    """The usage of jobs that have ended. Dimensions that are not in `by` are null."""

    user: str | None
    code: str | None
    month: str | None = Field(description="Month in which the jobs ended: YYYY-MM, UTC.")
    jobs: int
    completed: int
    failed: int
    cancelled: int
    corehours: float = Field(description="Cores that were asked for, times the attempts' time.")
    # Last, because scripts select columns of the CSV by number.
    measuredcorehours: float = Field(
        description="The part of `corehours` of which the CPU time is known."
    )
    cpuhours: float = Field(description="CPU time that was used in `measuredcorehours`.")
    batchid: UUID | None
    batchname: str | None


class UsageAnswer(BaseModel):
    """Usage by month, user and code."""

    rows: list[UsageAnswerRow]


class Audit(WithAdminSecret):
    """Which part of the audit to list."""

    action: Action | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Limit = 100
    after: Annotated[int | None, Field(ge=1, le=MAX_WHOLE), A_NUMBER] = Field(
        None, description="The `next` of the page before."
    )


class AuditEntry(BaseModel):
    """An entry of the audit: who did what, and when."""

    id: int
    at: datetime
    actor: str = Field(description="A user's name, or `operator of the service`.")
    action: Action
    subject: str | None = Field(description="A user's name or a job's id.")
    detail: str | None


class AuditAnswer(BaseModel):
    """A page of the audit, newest first."""

    entries: list[AuditEntry]
    next: int | None = Field(description="Send it as `after` for the next page; null: no more.")
