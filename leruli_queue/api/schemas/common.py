"""Types and errors that bodies and answers of several subjects share.

The field names are the wire contract of the published client.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from leruli_queue.access.secrets import refuse_secrets

# Longer than any of our secrets. If people paste too much, they get the sentence about the checksum
# and not one about a length.
SecretText = Annotated[str, StringConstraints(max_length=200)]
# For every field that is stored or logged as it was sent: a secret in the wrong field is refused.
NoSecret = AfterValidator(refuse_secrets)
NoSecretIfGiven = AfterValidator(lambda value: value and refuse_secrets(value))
# No control characters of terminals (C0, C1), line separators or bidirectional overrides.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$"
# Text that only people read.
Label = Annotated[str, StringConstraints(max_length=200, pattern=PRINTABLE), NoSecret]
INT32 = 2**31 - 1
MAX_WHOLE = 2**53 - 1
"""The largest whole number that every JSON parser reads exactly."""

# Sums of such durations stay finite numbers.
_MOST_SECONDS = 1e12


def _not_a_guess(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("it has to be a number")
    return value


# Place it after the limits in an Annotated. It refuses "4" and true: JSON has real numbers.
A_NUMBER = BeforeValidator(_not_a_guess)
# Numbers of attempts, cores, MB and the like: PostgreSQL's integer.
Count = Annotated[int, Field(ge=1, le=INT32), A_NUMBER]
Measured = Annotated[int | None, Field(ge=0, le=INT32), A_NUMBER]
Seconds = Annotated[float | None, Field(ge=0, le=_MOST_SECONDS, allow_inf_nan=False), A_NUMBER]


class Body(BaseModel):
    """The body of a request. Unknown fields are ignored: clients may be newer than the service."""

    # Error messages must not repeat a value, as it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)


def given(field: str, *, type_: str = "string", but_not: Sequence[str] = ()) -> dict[str, Any]:
    """Return a JSON schema that requires a field, for one of several forms of a body."""
    properties = {field: {"type": type_}} | {other: {"type": "null"} for other in but_not}
    return {"required": [field], "properties": properties}


class WithSecret(Body):
    """A body that is authorised by an API secret."""

    secret: SecretText = Field(description="API secret of the user.")


class WithAdminSecret(Body):
    """A body that is authorised by an admin's API secret."""

    adminsecret: SecretText = Field(description="API secret of an admin.")


class Nothing(BaseModel):
    """An empty object: the call succeeded."""


class Health(BaseModel):
    """The health of the process, in a few words."""

    status: str


class Problem(BaseModel):
    """An error, in a sentence."""

    detail: str


class CancelProblem(Problem):
    """An error of task-cancel, with the two fields that the published client always reads."""

    status: str
    reason: str


Responses = dict[int | str, dict[str, Any]]
_PROBLEMS = {
    403: "The secret is malformed, unknown, revoked, or not enough.",
    413: "The body is too large.",
    422: "The body is not as described; the sentence says where.",
    429: "Too many wrong secrets were tried; try again after Retry-After seconds.",
    503: "The service is busy or a part of it is away; try again after Retry-After seconds.",
}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}


def problems(more: dict[int, str] | None = None, model: type[Problem] = Problem) -> Responses:
    """Describe the errors of every call, and those of one call by their status."""
    return {
        status: {"model": model, "description": description}
        | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
        for status, description in sorted((_PROBLEMS | (more or {})).items())
    }


MAX_PAGE = 1000
"""Most rows of one page of a list."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _begins_with_a_date(value: object) -> object:
    # Pydantic would take "2026" for seconds since 1970.
    if value is not None and not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("it has to be a text such as 2026-11-24T08:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("it has to be in the years 1 to 9999, UTC") from None


# A time without a zone is UTC.
Time = Annotated[datetime, AfterValidator(_in_utc), BeforeValidator(_begins_with_a_date)]
Limit = Annotated[int, Field(ge=1, le=MAX_PAGE, description="Most rows of a page."), A_NUMBER]
