"""The retry rule of a job: how often and after what the queue tries it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from leruli.errors import RefusedError

#: The most retries that the service takes.
MOST_RETRIES = 100

_END = re.compile(r"out-of-memory|time-limit|exit=(any|\d{1,3})")


@dataclass(frozen=True)
class RetryRule:
    """When a job whose attempt failed is tried again, and what it may get then."""

    retry: int  #: how often; 0: never
    retry_on: str | None = None  #: after which ends, separated by commas
    most_memorymb: int | None = None  #: up to which the memory is doubled; None: it stays
    most_timelimit: int | None = None  #: up to which the time is doubled, seconds; None: it stays

    def check(self) -> None:
        """Raise RefusedError for a rule that makes no sense; the service checks the rest."""
        if not 0 <= self.retry <= MOST_RETRIES:
            raise RefusedError(
                f"The number of retries must be 0 to {MOST_RETRIES}, not {self.retry}."
            )
        given = (self.retry_on, self.most_memorymb, self.most_timelimit)
        if not self.retry and any(one is not None for one in given):
            raise RefusedError(
                "A most of memory or time, and the ends to try again after, need the number of "
                "retries too, such as --retry 3."
            )
        if self.retry and all(one is None for one in given):
            raise RefusedError(
                "Nothing says after what the job is tried again. Give a most of memory or time, "
                "such as --memory 2000:16000, or --retry-on out-of-memory,time-limit,exit=1."
            )
        for end in (self.retry_on or "").split(",") if self.retry_on is not None else ():
            if not _END.fullmatch(end):
                raise RefusedError(
                    f"{end!r} is no end after which a job can be tried again. There are "
                    "out-of-memory, time-limit, exit=CODE (such as exit=1) and exit=any, separated "
                    "by commas."
                )

    def payload(self) -> dict[str, Any]:
        """Return the fields of a submission, empty without a rule."""
        if not self.retry:
            return {}
        fields = {
            "retry": self.retry,
            "retryon": None if self.retry_on is None else self.retry_on.split(","),
            "retrymemorymb": self.most_memorymb,
            "retrytimelimit": self.most_timelimit,
        }
        return {name: value for name, value in fields.items() if value is not None}


NO_RULE = RetryRule(0)

#: The fields of JobSpec that make the rule.
FIELDS = ("retry", "retry_on", "most_memorymb", "most_timelimit")
