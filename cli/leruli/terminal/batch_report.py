"""Batches for people: columns of a list, and the sentences of one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from leruli.jobs.batches import short_batch_id
from leruli.service.states import STATES
from leruli.terminal.brief import BriefColumn, Cut
from leruli.terminal.tables import Column
from leruli.times import age, duration, parse_moment
from leruli.wording import counted

#: The columns of a list. The counts of a batch are entries of their own: see `flat`.
COLUMNS = (
    Column("batch", "batchid"),
    Column("name", "name"),
    Column("jobs", "jobs", is_number=True),
    *(Column(state, state, is_number=True) for state in STATES),
    Column("submitted at", "submittedat", is_time=True),
    Column("last submitted at", "lastsubmittedat", is_time=True),
    Column("first running at", "firstrunningat", is_time=True),
)

#: The columns on a terminal.
BRIEF = (
    BriefColumn("batch", lambda one: short_batch_id(one["batchid"])),
    BriefColumn("name", lambda one: one.get("name"), at_most=20, cut=Cut.MIDDLE),
    BriefColumn("jobs", lambda one: one.get("jobs"), is_number=True),
    BriefColumn("since", lambda one: age(one.get("submittedat")), is_number=True),
    BriefColumn("states", lambda one: states_text(one["counts"]), at_most=None, cut=Cut.END),
)


def flat(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch with each count as a field of its own."""
    return {**batch["counts"], **batch}


def states_text(counts: Mapping[str, int]) -> str:
    """Return the counts of the states that have jobs, in the order of a job's life."""
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))


def headline(batch: Mapping[str, Any]) -> str:
    """Return the line with the name, the short id and the counts."""
    return (
        f"{title(batch)}: {counted(batch['jobs'], 'job')}: "
        f"{states_text(batch['counts']) or 'none'}."
    )


def title(batch: Mapping[str, Any]) -> str:
    """Return name and short id; the pattern of folders that are no batch of the service."""
    if "batchid" not in batch:
        return str(batch["name"])
    name = f"{batch['name']} " if batch.get("name") else ""
    return f"{name}({short_batch_id(batch['batchid'])})"


def pace(batch: Mapping[str, Any]) -> str | None:
    """Return the sentence on the rate and the expected end, None before the first end."""
    rate = batch.get("rate")
    if not rate:
        return None
    a_minute = rate * 60
    text = f"{a_minute:.0f} jobs a minute" if a_minute >= 10 else f"{rate * 3600:.3g} jobs an hour"
    left = _seconds_until(batch.get("expectedend"))
    return f"{text}." if left is None else f"{text}; about {duration(left)} to go."


def failure_lines(batch: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each of the last failures."""
    for job in batch.get("failures", ()):
        reason = job.get("reason") or f"exit code {job.get('exitcode')}"
        ended = age(job.get("endedat"))
        ago = f", {ended} ago" if ended else ""
        yield f"{job.get('name')} ({job.get('jobid')}){ago}: {reason}"


def _seconds_until(moment: Any) -> float | None:
    try:
        return (parse_moment(moment) - datetime.now(timezone.utc)).total_seconds()
    except (AttributeError, ValueError):
        return None
