"""What jobs used, for people: the table of resources, the table of jobs, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from leruli.jobs.efficiency import Report, Resource, cores_used, memory_used
from leruli.terminal.brief import BriefColumn, Cut, id_column, state_column
from leruli.terminal.tables import Column
from leruli.wording import counted

#: The columns of the resources, away from a terminal: MB, seconds, cores.
COLUMNS = (
    Column("resource", "name"),
    Column("asked", "asked"),
    Column("median", "median"),
    Column("p95", "p95"),
    Column("most", "most"),
    Column("ask for", "ask_for"),
    Column("jobs", "jobs"),
    Column("at limit", "at_limit"),
)

#: The columns on a terminal.
BRIEF = (
    BriefColumn("resource", lambda one: one["name"]),
    BriefColumn("asked", lambda one: _amount(one["name"], one["asked"]) or "default", True),
    BriefColumn("median", lambda one: _amount(one["name"], one["median"]), True),
    BriefColumn("p95", lambda one: _amount(one["name"], one["p95"]), True),
    BriefColumn("most", lambda one: _amount(one["name"], one["most"]), True),
    BriefColumn("ask for", lambda one: _option(one["name"], one["ask_for"])),
)

#: The fields of a job in CSV, after those that its row has by itself.
_ASKED = (
    *("name", "jobid", "code", "version", "state", "attempts", "outcome"),
    *("cores", "memorymb", "timelimit", "diskmb"),
)
_USED = (
    *("cpuseconds", "wallseconds", "peaknocachemb", "peakmemorymb", "diskmb"),
    *("queueseconds", "placeseconds", "imageseconds", "inputseconds", "outputseconds"),
)

#: The columns of single jobs, away from a terminal.
JOB_COLUMNS = (
    Column("name", "name"),
    Column("job", "jobid"),
    Column("state", "state"),
    Column("cores", "cores", is_number=True),
    Column("used cores", "usedcores", is_number=True, decimals=2),
    Column("memory MB", "memorymb", is_number=True),
    Column("used memory MB", "usedmemorymb", is_number=True),
    Column("time s", "timelimit", is_number=True),
    Column("used time s", "wallseconds", is_number=True, decimals=1),
    Column("disk MB", "diskmb", is_number=True),
    Column("used disk MB", "useddiskmb", is_number=True),
)

#: The columns of single jobs on a terminal: used of what was asked for.
JOB_BRIEF = (
    BriefColumn("name", lambda one: one.get("name"), at_most=20, cut=Cut.MIDDLE),
    id_column(),
    state_column("state"),
    BriefColumn("cores", lambda one: _of("cores", one["usedcores"], one["cores"]), True),
    BriefColumn("memory", lambda one: _of("memory", one["usedmemorymb"], one["memorymb"]), True),
    BriefColumn("time", lambda one: _of("time", one["wallseconds"], one["timelimit"]), True),
)


def job_row(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job with what it used as fields of its own."""
    used = job["used"]
    return {
        **job,
        "usedcores": cores_used(job),
        "usedmemorymb": memory_used(job),
        "wallseconds": used.get("wallseconds"),
        "useddiskmb": used.get("diskmb"),
    }


def as_csv(jobs: Iterable[Mapping[str, Any]]) -> str:
    """Return a line for each job (RFC 4180), and a heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # Both have a field diskmb.
    writer.writerow([*_ASKED, *(f"used{name}" if name in _ASKED else name for name in _USED)])
    for job in jobs:
        cells = [*(job.get(name) for name in _ASKED), *(job["used"].get(name) for name in _USED)]
        writer.writerow(" ".join(str("" if cell is None else cell).split()) for cell in cells)
    return text.getvalue().rstrip("\n")


def sentences(report: Report, not_ended: int) -> Iterator[str]:
    """Yield the lines below the table of resources."""
    for because, options in _reasons(report.resources).items():
        yield f"{', '.join(options)}: {because}."
    for one in report.resources:
        if one.at_limit:
            yield f"{counted(one.at_limit, 'job')} reached the limit of {one.name}."
    if report.cpu_efficiency is not None:
        yield f"CPU efficiency: {report.cpu_efficiency:.0%} of the cores while the jobs ran."
    for some in (("queue", "place", "image", "input"), ("run", "output")):
        known = [(phase, report.phases.get(phase)) for phase in some]
        phases = [f"{phase} {_time(seconds)}" for phase, seconds in known if seconds is not None]
        if phases:
            yield f"Median time: {', '.join(phases)}."
    left_out = report.measured - report.counted
    if left_out:
        yield f"{counted(left_out, 'job')} failed or were cancelled, and do not count."
    if report.ended > report.measured:
        number = counted(report.ended - report.measured, "job")
        yield f"Not measured: {number} that never ran, or ran on a machine that measures less."
    if not_ended:
        yield f"Not ended: {counted(not_ended, 'job')}."


def _reasons(resources: Sequence[Resource]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for one in resources:
        if one.ask_for is not None:
            reasons.setdefault(one.because, []).append(f"--{one.name}")
    return reasons


def _option(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"--{name} {value / 60 if name == 'time' else value:g}"


def _of(name: str, used: float | None, asked: float) -> str:
    return f"{_amount(name, used) or '-'} of {_amount(name, asked)}"


def _amount(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "cores":
        return f"{value:g}" if isinstance(value, int) else f"{value:.1f}"
    return _time(value) if name == "time" else f"{value:,.0f} MB"


def _time(seconds: float) -> str:
    """Return a time with two digits or more: 0.3 s, 12 s, 7.5 min, 24 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    amount, unit = (seconds / 60, "min") if seconds < 7200 else (seconds / 3600, "h")
    return f"{amount:.1f} {unit}" if amount < 10 and amount % 1 else f"{amount:,.0f} {unit}"
