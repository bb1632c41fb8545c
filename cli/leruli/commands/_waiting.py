"""Shared by task-wait, task-submit --wait and task-get --wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leruli import settings
from leruli.commands._batches import tell_failures
from leruli.commands._common import HERE, job_here
from leruli.commands._then import run_then
from leruli.errors import LeruliError
from leruli.service.states import STATES
from leruli.terminal.output import Output
from leruli.terminal.progress import progress
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.service.queue_client import JobState, QueueClient

#: Exit codes that say how waiting ended.
FAILED, CANCELLED, TIME_OVER = 10, 11, 12

_OUTCOMES = {0: "completed", FAILED: "failed", CANCELLED: "cancelled", TIME_OVER: "timeout"}

#: What to say after Ctrl-C.
JOBS_GO_ON = "The jobs go on. Run `leruli task-wait` to wait for them again."

_Body = TypeVar("_Body", bound=Callable[..., Any])


def timeout_option(body: _Body) -> _Body:
    """Add --timeout."""
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        metavar="S",
        help="Wait for S seconds at most. If the jobs are not over then, the exit code is 12.",
    )(body)


def jobs_of_batch(service: QueueClient, batch: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the jobs of a batch by folder, and the folders without a job of their own, and why."""
    from leruli.folder.journal import JournalView
    from leruli.folder.patterns import find_folders
    from leruli.folder.provenance import provenances_of
    from leruli.jobs.many import NOT_SUBMITTED, ask_for_folders

    folders = find_folders(batch)
    provenances = provenances_of(folders)
    jobs: dict[str, str] = {}
    problems: dict[str, str] = {}
    for one in ask_for_folders(folders, JournalView.of(batch), service.find_jobs, service.statuses):
        provenance = provenances[one.directory]
        if isinstance(provenance, LeruliError):
            problems[one.directory] = str(provenance)
        elif provenance.is_copy:
            problems[one.directory] = provenance.sentence(one.directory)
        elif one.jobid is None or one.problem is not None:
            problems[one.directory] = one.problem or NOT_SUBMITTED
        else:
            jobs[one.directory] = one.jobid
    return jobs, problems


def wait_after_submission(out: Output, batch: str | None, then: str | None = None) -> int:
    """Wait for the job of the current folder, or for those of a batch; return the exit code.

    `then` is a command of the user that runs after that.
    """
    from leruli.service.queue_client import QueueClient

    try:
        with QueueClient(settings.service_settings(), out.note) as service:
            if batch is None:
                return wait_for(out, service, {HERE: job_here(None, service)}, then=then)
            jobs, problems = jobs_of_batch(service, batch)
            return wait_for(out, service, jobs, problems=problems, then=then)
    except KeyboardInterrupt:
        out.complaint(JOBS_GO_ON)
        raise


def wait_for(
    out: Output,
    service: QueueClient,
    jobs: Mapping[str, str],
    *,
    timeout: float | None = None,
    first_one: bool = False,
    problems: Mapping[str, str] | None = None,
    then: str | None = None,
) -> int:
    """Wait until jobs are over, print how they ended, and return the exit code.

    Parameters
    ----------
    jobs
        Ids of the jobs, by the names that people gave.
    timeout
        Seconds to wait; None: as long as it takes.
    first_one
        Stop at the first job that is over.
    problems
        Names for which there is no job to wait for, and why.
    then
        A command that the shell runs when the waiting has ended.
    """
    from leruli.jobs.wait import Wait

    ended: dict[str, JobState | LeruliError] = {}
    waiting = Wait(service, jobs.values(), timeout_s=timeout, is_eager=first_one)
    with progress(
        "Waiting",
        len(jobs),
        unit="job",
        visible=out.shows_progress,
        notice=out.remarks if len(jobs) > 1 else None,
    ) as advance:
        for some in waiting.ends():
            ended.update(some)
            advance(sum(jobid in some for jobid in jobs.values()))
            if first_one and ended:
                break
    entries = [_entry(name, jobid, ended.get(jobid)) for name, jobid in jobs.items()]
    failures = {**(problems or {}), **_unknown(entries)}
    if len(jobs) == 1 and not failures:
        _tell_one(out, entries[0])
    else:
        _tell_many(out, entries, failures, first_one=first_one)
    shown = [one for one in entries if one["isover"]] if first_one else entries
    out.result("", {"jobs": entries, "problems": failures})
    code = _exit_code(shown, failures, is_over=bool(shown) if first_one else not waiting.pending)
    return code if then is None else run_then(out, then, _told(entries, code), code)


def _told(entries: list[dict[str, Any]], code: int) -> dict[str, str | int]:
    """Return what the command of --then is told: the outcome, and counts of all jobs."""
    counts = Counter(one["status"] if one["isover"] else "not over" for one in entries)
    return {
        "OUTCOME": _OUTCOMES.get(code, "unknown"),
        "JOBS": len(entries),
        "COMPLETED": counts["completed"],
        "FAILED": counts["failed"],
        "CANCELLED": counts["cancelled"],
        "NOT_OVER": counts["not over"],
    }


def _entry(name: str, jobid: str, state: JobState | LeruliError | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"job": name, "jobid": jobid, "isover": state is not None}
    if state is None:
        return {**entry, "status": None, "reason": None}
    if isinstance(state, LeruliError):
        return {**entry, "status": "unknown", "reason": str(state)}
    return {**entry, "status": state.status, "reason": state.reason}


def _unknown(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {one["job"]: one["reason"] for one in entries if one["status"] == "unknown"}


def _tell_one(out: Output, entry: Mapping[str, Any]) -> None:
    if out.as_json:
        return
    if not entry["isover"]:
        out.complaint("The job is not over yet; it goes on.")
        return
    reason = "" if entry["reason"] is None else f": {entry['reason']}"
    out.result(f"{entry['status']}{reason}", {})


def _tell_many(
    out: Output, entries: list[dict[str, Any]], problems: dict[str, str], *, first_one: bool
) -> None:
    tell_failures(out, "Not waited for", problems)
    if out.as_json:
        return
    if first_one:
        for one in entries:
            if one["isover"]:
                words = (one["job"], one["jobid"], one["status"], one["reason"] or "")
                out.result("\t".join(words).rstrip(), {})
        return
    for state in ("failed", "cancelled"):
        found = {one["job"]: one["reason"] or "" for one in entries if one["status"] == state}
        tell_failures(out, state.capitalize(), found)
    counts = Counter(one["status"] or "not over" for one in entries)
    ordered = sorted(counts, key=lambda word: [*STATES, word].index(word))
    text = ", ".join(f"{counts[word]} {word}" for word in ordered)
    out.done(f"{counted(len(entries), 'job')}: {text}.", {})


def _exit_code(entries: list[dict[str, Any]], problems: Mapping[str, str], *, is_over: bool) -> int:
    states = {one["status"] for one in entries}
    if problems:
        return 1
    if not is_over:
        return TIME_OVER
    if "failed" in states:
        return FAILED
    return CANCELLED if "cancelled" in states else 0
