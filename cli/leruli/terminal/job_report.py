"""Everything that is known about one job, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from leruli.jobs.batches import short_batch_id
from leruli.jobs.exit_codes import explain
from leruli.terminal.brief import state_style
from leruli.terminal.retry_report import memory_and_time, retry_lines
from leruli.terminal.tables import terminal_width
from leruli.times import duration, parse_moment
from leruli.wording import counted

#: A label and its value.
Line = tuple[str, str]


def print_job(
    job: Mapping[str, Any],
    command: str | None,
    files: str,
    printable: Callable[[str], str],
) -> None:
    """Print an answer of task-detail; `printable` cleans every text.

    `command` is the command of the job if it is known. `files` says where its files are.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=terminal_width(), highlight=False)
    state, reason = str(job.get("state")), job.get("reason")
    head = Text(state, state_style(state))
    if reason:
        head.append(printable(f": {reason}"), "default")
    console.print(head)
    meaning = explain(state, reason, job.get("exitcode"))
    if meaning:
        console.print(Text(meaning))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in _lines(job, command, files):
        # Text, because square brackets in a name are no mark-up.
        grid.add_row(Text(label, "bold"), Text(printable(value)))
    console.print(grid)


def _lines(job: Mapping[str, Any], command: str | None, files: str) -> list[Line]:
    attempts: Sequence[Mapping[str, Any]] = job.get("attempts") or []
    found: list[tuple[str, str | None]] = [
        ("job", job.get("jobid")),
        ("name", job.get("name")),
        ("batch", _batch(job)),
        ("command", command),
        ("image", f"{job.get('code')}:{job.get('version')}"),
        ("limits", _limits(job)),
        *_phases(job),
        ("node", job.get("node")),
        ("exit code", _text(job.get("exitcode"))),
        ("peak memory", _amount(job.get("peakmemorymb"), "MB")),
        ("CPU time", _cpu_time(job)),
        *retry_lines(job),
        *_tries(attempts, with_limits=bool(job.get("retry"))),
        ("files", files),
    ]
    return [(label, value) for label, value in found if value]


def _limits(job: Mapping[str, Any]) -> str:
    cores, seconds = job.get("cores"), job.get("timelimit")
    disk, priority = _amount(job.get("diskmb"), "MB of disk"), job.get("priority")
    parts = [
        counted(cores, "core") if isinstance(cores, int) else None,
        _amount(job.get("memorymb"), "MB of memory"),
        f"{seconds / 60:g} min" if isinstance(seconds, (int, float)) else None,
        disk or "the service's default of disk",
        _amount(job.get("shmmb"), "MB of /dev/shm"),
        f"priority {priority}" if priority else None,
        "may share a container" if job.get("sharecontainer") else None,
    ]
    return ", ".join(part for part in parts if part)


def _batch(job: Mapping[str, Any]) -> str | None:
    if not job.get("batchid"):
        return None
    return f"{job.get('batchname') or 'without a name'} ({short_batch_id(str(job['batchid']))})"


def _phases(job: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return the start of each phase, and the duration of the phase before it."""
    lines: list[tuple[str, str | None]] = []
    before: datetime | None = None
    for label, taken in (
        ("received", ""),
        ("submitted", "waited"),
        ("running", "placed and prepared in"),
        ("ended", "ran"),
    ):
        moment = _moment(job.get(f"{label}at"))
        if moment is None:
            continue
        text = moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        if before is not None and moment >= before:
            what = taken if label != "ended" or job.get("runningat") else "after"
            text += f"  ({what} {duration((moment - before).total_seconds())})"
        lines.append((label, text))
        before = moment
    return lines


def _tries(
    attempts: Sequence[Mapping[str, Any]], *, with_limits: bool
) -> list[tuple[str, str | None]]:
    """Return a line per attempt if there was more than one."""
    if len(attempts) < 2:
        return []
    lines: list[tuple[str, str | None]] = []
    for one in attempts:
        what = [one.get("outcome") or one.get("state"), one.get("message")]
        where = one.get("node") or "no node yet"
        said = ": ".join(str(part) for part in what if part)
        had = f" ({memory_and_time(one)})" if with_limits else ""
        lines.append((f"attempt {one.get('number')}", f"{where}{had}: {said or 'under way'}"))
    return lines


def _cpu_time(job: Mapping[str, Any]) -> str | None:
    seconds = job.get("cpuseconds")
    if not isinstance(seconds, (int, float)):
        return None
    text = f"{seconds:,.1f} s"
    begun, ended = _moment(job.get("runningat")), _moment(job.get("endedat"))
    wall = (ended - begun).total_seconds() if begun and ended else 0.0
    return f"{text}, {seconds / wall:.1f} cores on average" if wall >= 1 else text


def _moment(value: Any) -> datetime | None:
    try:
        return parse_moment(value)
    except (AttributeError, ValueError):
        return None


def _amount(value: Any, unit: str) -> str | None:
    return f"{value:,} {unit}" if isinstance(value, (int, float)) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
