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
    """A user to be made."""

    name: str = Field(max_length=200, json_schema_extra=_NAME_SCHEMA)
    admin: StrictBool = Field(False, description="Whether the user is an admin.")

    @field_validator("name")
    @classmethod
    def _is_allowed(cls, value: str) -> str:
        check_name("user", value)  # answers for itself, in a better sentence than a pattern's
        return value


class RevokeUser(WithAdminSecret):
    """A user whose secret is to end, by name or by key id."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [given("name", but_not=("keyid",)), given("keyid", but_not=("name",))]
        }
    )

    name: Label | None = None
    keyid: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{10}$")] | None = Field(
        None, description="Key id of the secret, as secret-find and group-list-users tell it."
    )

    @model_validator(mode="after")
    def _means_one(self) -> RevokeUser:
        if (self.name is None) == (self.keyid is None):
            raise ValueError("it needs the name of a user or the keyid of a secret, not both")
        return self


class RevokeUserAnswer(BaseModel):
    """The user is revoked: nothing that was begun under the secret is under way any more."""

    name: str
    revokedat: datetime


class ListUsers(WithAdminSecret):
    """Which users to list."""

    revoked: StrictBool = Field(False, description="Whether to list those who were revoked, too.")


class ListedUser(BaseModel):
    """A user, without the secret."""

    name: str
    role: Role
    keyid: str = Field(description="The secret's key id, which is no secret.")
    createdat: datetime
    lastusedat: datetime | None = Field(description="To the minute.")
    revokedat: datetime | None


class ListUsersAnswer(BaseModel):
    """The users of the group by name, those that were revoked last."""

    users: list[ListedUser]


class RotateToken(WithAdminSecret):
    """The group token is to be rotated."""

    prepare: StrictBool = Field(
        False, description="Make the next token and answer it; the present one stays valid."
    )
    newtoken: SecretText | None = Field(
        None, description="The prepared token, which is to be valid. With it this can be repeated."
    )


class ImageTokensAnswer(BaseModel):
    """The tokens by which the group's images are found: in the buckets `code-<token>`."""

    tokens: list[str] = Field(description="The group token, then older ones, the newest first.")


class ImagesMoved(WithAdminSecret):
    """The buckets of older tokens are gone."""

    grouptoken: SecretText | None = Field(
        None, description="The token whose bucket has all images: refused if it was rotated since."
    )


class ImagesMovedAnswer(BaseModel):
    """Older tokens are told to nobody any more."""

    forgotten: int = Field(description="Tokens that were told until now.")


class WithGroupToken(Body):
    """A body that is authorised by a group token."""

    grouptoken: SecretText = Field(description="Group token; a user gets it by group-token.")


class Activity(WithGroupToken):
    """Which jobs of the group to list."""

    states: list[JobState] | None = Field(None, max_length=len(JobState))
    user: Label | None = Field(None, description="Jobs of everybody who ever had this name.")
    since: Time | None = Field(None, description="Received then or later.")
    until: Time | None = Field(None, description="Received before.")
    limit: Limit = 100
    after: UUID | None = Field(None, description="The `next` of the page before.")


class ActivityAnswer(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[ActivityJob]
    next: UUID | None = Field(description="Send it as `after` for the next page; null: no more.")


class UsageFormat(StrEnum):
    """How usage is answered."""

    JSON = "json"
    CSV = "csv"


class Usage(WithGroupToken):
    """What usage to sum up."""

    by: list[Dimension] = Field(
        list(Dimension), max_length=len(Dimension), description="What it is told apart by."
    )
    since: Time | None = Field(None, description="Jobs that ended then or later.")
    until: Time | None = Field(None, description="Jobs that ended before.")
    format: UsageFormat = UsageFormat.JSON


class UsageAnswerRow(BaseModel):
    """What the jobs that have ended used. What was not asked to be told apart is null."""

    user: str | None
    code: str | None
    month: str | None = Field(description="YYYY-MM of the jobs' end, UTC.")
    jobs: int
    completed: int
    failed: int
    cancelled: int
    corehours: float


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
    """Who did what when."""

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
