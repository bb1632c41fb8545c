"""The retry rule of a job, as it is submitted and answered."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from leruli_queue.api.schemas.common import A_NUMBER, INT32, Body, NoSecret
from leruli_queue.jobs.retry_rules import (
    END_PATTERN,
    MOST_RETRIES,
    RetryProgress,
    RetryRule,
    rule_of,
)

# An end of a command after which a retry rule tries the job again.
RetryEnd = Annotated[str, StringConstraints(pattern=END_PATTERN), NoSecret]


class WithRetryRule(Body):
    """A job that may have a retry rule."""

    retry: Annotated[int | None, Field(ge=1, le=MOST_RETRIES), A_NUMBER] = Field(
        None, description="How often the job is tried again after an end of `retryon`."
    )
    retryon: list[RetryEnd] | None = Field(
        None,
        max_length=257,
        description="`out-of-memory`, `time-limit`, `exit=CODE` or `exit=any` (every code but 0). "
        "Without it those that more memory (`retrymemorymb`) or time (`retrytimelimit`) can mend.",
    )
    retrymemorymb: Annotated[int | None, Field(ge=16, le=INT32), A_NUMBER] = Field(
        None, description="Up to this the memory is doubled. Without it the memory stays."
    )
    retrytimelimit: Annotated[int | None, Field(ge=1, le=INT32), A_NUMBER] = Field(
        None, description="Up to this the time limit is doubled. Without it the time limit stays."
    )

    def rule(self, memory_mb: int, time_limit_s: int) -> RetryRule | None:
        """Return the rule of a job whose first attempt gets this memory and time.

        Raises
        ------
        UserReportableError
            422 when the fields do not go together.
        """
        return rule_of(
            self.retry,
            self.retryon,
            (memory_mb, self.retrymemorymb),
            (time_limit_s, self.retrytimelimit),
        )


class ShownRetry(BaseModel):
    """The retry rule of a job, and how far it is."""

    most: int = Field(description="How often the job may be tried again.")
    used: int = Field(description="How often it was. Failures of the platform do not count.")
    on: list[str] = Field(description="The ends after which it is tried again.")
    memorymb: int | None = Field(description="Up to which the memory is doubled; null: it stays.")
    timelimit: int | None = Field(description="Up to which the time is doubled; null: it stays.")
    firstmemorymb: int = Field(description="What the submission asked for.")
    firsttimelimit: int = Field(description="What the submission asked for.")

    @classmethod
    def of(cls, retry: RetryProgress) -> ShownRetry:
        """Return the answer about a rule."""
        return cls(
            most=retry.rule.most_retries,
            used=retry.used,
            on=sorted(retry.rule.ends),
            memorymb=retry.rule.most_memory_mb,
            timelimit=retry.rule.most_time_limit_s,
            firstmemorymb=retry.first_memory_mb,
            firsttimelimit=retry.first_time_limit_s,
        )
