"""Retry rules of users: which ends of an attempt put its job back into the backlog.

A rule says how often, after which ends, and up to which memory and time. It is the user's. Retries
after failures of the platform are apart from it, and uncounted here. Here is
what a rule decides; :mod:`leruli_queue.jobs.receipts` stores it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from leruli_queue.errors import UserReportableError
from leruli_queue.jobs.outcomes import NextLimits, Outcome, Receipt, Verdict
from leruli_queue.jobs.states import JobState

MOST_RETRIES = 100
"""The most retries of a rule. Without a bound a job that always fails would run for ever."""

OUT_OF_MEMORY = "out-of-memory"
TIME_LIMIT = "time-limit"
ANY_EXIT = "exit=any"

END_PATTERN = r"^(out-of-memory|time-limit|exit=any|exit=([1-9]|[1-9]\d|1\d\d|2[0-4]\d|25[0-5]))$"
"""An end after which a rule retries. Exit code 0 is no failure."""


@dataclass(frozen=True)
class RetryRule:
    """How often and after what a job is tried again, and what it may get then."""

    most_retries: int
    # Each of END_PATTERN.
    ends: frozenset[str]
    # Up to which the memory, or the time, is doubled. None: it stays.
    most_memory_mb: int | None = None
    most_time_limit_s: int | None = None

    def largest_memory_mb(self, first_memory_mb: int) -> int:
        """Return the most memory that a retry can get, if each one doubles it."""
        largest = first_memory_mb
        for _ in range(self.most_retries):
            largest = _doubled(largest, self.most_memory_mb)
        return largest

    @property
    def text(self) -> str:
        """Return the ends as one text, as ``jobs.retry_on`` has them."""
        return ",".join(sorted(self.ends))


@dataclass(frozen=True)
class RetryProgress:
    """How far a job with a rule is."""

    rule: RetryRule
    used: int
    # What the first attempt had.
    first_memory_mb: int
    first_time_limit_s: int


def progress_of(job: Mapping[str, Any]) -> RetryProgress | None:
    """Return how far a job is with its rule, None without one.

    Parameters
    ----------
    job
        A row with retries, most_retries, retry_on, first_memory_mb, first_time_limit_s,
        most_memory_mb and most_time_limit_s.
    """
    if job["retries"] is None:
        return None
    ends = frozenset(job["retry_on"].split(","))
    return RetryProgress(
        RetryRule(job["most_retries"], ends, job["most_memory_mb"], job["most_time_limit_s"]),
        job["retries"],
        job["first_memory_mb"],
        job["first_time_limit_s"],
    )


def rule_of(
    most_retries: int | None,
    ends: Collection[str] | None,
    memory_mb: tuple[int, int | None],
    time_limit_s: tuple[int, int | None],
) -> RetryRule | None:
    """Return the rule that a submission asks for, None without one.

    Parameters
    ----------
    ends
        None: those that more memory or time can mend. These are out of memory where the memory
        grows, and the time limit where the time grows.
    memory_mb, time_limit_s
        Of the first attempt, and the most. None: it does not grow.

    Raises
    ------
    UserReportableError
        422 when the parts do not go together.
    """
    growing = (("retrymemorymb", *memory_mb), ("retrytimelimit", *time_limit_s))
    if most_retries is None:
        given = [name for name, _, most in growing if most is not None]
        if ends is not None:
            given.append("retryon")
        if given:
            raise _refusal(given[0], "it says how a job is tried again; say in retry how often")
        return None
    for name, first, most in growing:
        if most is not None and most < first:
            raise _refusal(name, f"{most} is less than the first attempt gets ({first})")
    if ends is None:
        most_of = {OUT_OF_MEMORY: memory_mb[1], TIME_LIMIT: time_limit_s[1]}
        ends = [end for end, most in most_of.items() if most is not None]
    if not ends:
        raise _refusal(
            "retry",
            "nothing says after what the job is tried again. Say it in retryon "
            f"({OUT_OF_MEMORY}, {TIME_LIMIT}, exit=CODE or {ANY_EXIT}), or give the most memory or "
            "time of a retry",
        )
    return RetryRule(most_retries, frozenset(ends), memory_mb[1], time_limit_s[1])


def _refusal(name: str, why: str) -> UserReportableError:
    return UserReportableError(f"Parameter {name}: {why}.", status=422)


def revise(verdict: Verdict, receipt: Receipt, job: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a job that failed, in the light of its rule. A pure function.

    What was exceeded is doubled: the memory after it ran out, the time after its limit, both after
    an exit code, which may mean either. If it was exceeded and has its most already, another
    attempt would end the same way, and the job fails.

    Parameters
    ----------
    job
        A row with retries, most_retries, retry_on, memory_mb, time_limit_s, most_memory_mb and
        most_time_limit_s.
    """
    if job["retries"] is None or not _is_among(receipt, job["retry_on"].split(",")):
        return verdict
    outcome, failure = receipt.outcome, verdict.reason
    if job["retries"] >= job["most_retries"]:
        why = f"{failure}; all of its retries are used ({job['most_retries']})"
        return replace(verdict, reason=why)
    memory_mb, time_limit_s = job["memory_mb"], job["time_limit_s"]
    if outcome is not Outcome.TIME_LIMIT:
        memory_mb = _doubled(memory_mb, job["most_memory_mb"])
    if outcome is not Outcome.OUT_OF_MEMORY:
        time_limit_s = _doubled(time_limit_s, job["most_time_limit_s"])
    more_memory, more_time = memory_mb > job["memory_mb"], time_limit_s > job["time_limit_s"]
    if outcome is Outcome.OUT_OF_MEMORY and job["most_memory_mb"] and not more_memory:
        return replace(verdict, reason=f"{failure}; its retries may not get more memory")
    if outcome is Outcome.TIME_LIMIT and job["most_time_limit_s"] and not more_time:
        return replace(verdict, reason=f"{failure}; its retries may not get more time")
    parts = [f"{memory_mb} MB"] * more_memory + [f"{time_limit_s} s"] * more_time
    with_more = f" with {' and '.join(parts)}" if parts else ""
    number = f"attempt {job['retries'] + 2} of {job['most_retries'] + 1}"
    return Verdict(
        JobState.RECEIVED,
        f"{number}: {failure}; runs again{with_more}",
        next_limits=NextLimits(memory_mb, time_limit_s),
    )


def _is_among(receipt: Receipt, ends: Collection[str]) -> bool:
    match receipt.outcome:
        case Outcome.OUT_OF_MEMORY:
            return OUT_OF_MEMORY in ends
        case Outcome.TIME_LIMIT:
            return TIME_LIMIT in ends
        case Outcome.ENDED:
            return ANY_EXIT in ends or f"exit={receipt.exit_code}" in ends
        case _:
            # Image, input and disk: another attempt gets the same.
            return False


def _doubled(value: int, most: int | None) -> int:
    return value if most is None else max(value, min(2 * value, most))
