"""`leruli task-report`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from leruli import settings
from leruli.commands._batches import tell_failures
from leruli.commands._common import HERE, client_command, job_here
from leruli.commands._waiting import jobs_of_batch
from leruli.errors import NotFoundError
from leruli.folder.patterns import means_folders
from leruli.terminal.output import Output


@click.command("task-report")
@click.option(
    "--batch",
    metavar="BATCH|PATTERN|FILE",
    help="Of the jobs of a batch, by its id or name; or of folders: a pattern in quotes such as "
    "'case-*/', or a file with one folder a line (- for standard input).",
)
@click.option("--jobs", "with_jobs", is_flag=True, help="Print a line for each job first.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a line for each job as CSV.")
@click.argument("jobids", nargs=-1, metavar="[JOBID]...")
@client_command(interrupted="Nothing was changed.")
def command(
    out: Output, batch: str | None, with_jobs: bool, as_csv: bool, jobids: tuple[str, ...]
) -> int:
    """Print what jobs used beside what they asked for, and what to ask for next time.

    The jobs are each JOBID, or the current folder's. Each JOBID may also be four or more first or
    last digits of an id, the job's name, or its folder. Only jobs that have ended are reported.

    Memory is without page cache. The numbers to ask for stand on the 95th percentile (p95) of jobs
    that completed or reached a limit. The exit code is 1 if a folder has no job to report on.
    """
    if batch is not None and jobids:
        raise click.UsageError("Give --batch or JOBID, not both.")
    if as_csv and out.as_json:
        raise click.UsageError("--csv and --json exclude each other.")
    problems: dict[str, str] = {}
    if batch is not None and not means_folders(batch):
        jobs, asked = _of_batch(out, batch)
    else:
        jobids, problems = _named(out, batch, jobids)
        jobs, asked = _of_jobs(out, jobids), len(jobids)
    tell_failures(out, "Not reported", problems)
    if not jobs:
        raise NotFoundError("None of these jobs has ended, so there is nothing to report yet.")
    _print(out, jobs, asked - len(jobs), problems, with_jobs=with_jobs, as_csv=as_csv)
    return 1 if problems else 0


def _of_batch(out: Output, batch: str) -> tuple[list[dict[str, Any]], int]:
    """Return the jobs of a batch that have ended, and how many jobs it has."""
    from leruli.jobs.batches import resolve_batch
    from leruli.service.batches import BatchClient
    from leruli.service.reports import ReportClient

    connection = settings.service_settings()
    with BatchClient(connection, out.note) as service:
        batchid = resolve_batch(service, batch, HERE)
        with ReportClient(connection, out.note) as reports:
            jobs = list(reports.of_batch(batchid))
        # After the report: a job that ended meanwhile counts as one that has not.
        return jobs, max(len(jobs), int(service.status(batchid).get("jobs", 0)))


def _named(
    out: Output, batch: str | None, jobids: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the ids of jobs that are named one by one, and folders without a job, and why."""
    from leruli.service.queue_client import QueueClient

    with QueueClient(settings.service_settings(), out.note) as service:
        if batch is None:
            named = [job_here(name, service) for name in jobids] or [job_here(None, service)]
            return tuple(dict.fromkeys(named)), {}
        jobs, problems = jobs_of_batch(service, batch)
        return tuple(dict.fromkeys(jobs.values())), problems


def _of_jobs(out: Output, jobids: tuple[str, ...]) -> list[dict[str, Any]]:
    from leruli.service.reports import ReportClient

    with ReportClient(settings.service_settings(), out.note) as service:
        return list(service.of_jobs(jobids))


def _print(
    out: Output,
    jobs: list[dict[str, Any]],
    not_ended: int,
    problems: dict[str, str],
    *,
    with_jobs: bool,
    as_csv: bool,
) -> None:
    from leruli.jobs.efficiency import report
    from leruli.terminal import use_report

    if as_csv:
        out.result(use_report.as_csv(jobs), {})
        return
    found = report(jobs)
    document = {**found.document(), "notended": not_ended, "jobs": jobs, "problems": problems}
    if out.as_json:
        out.result("", document)
        return
    if with_jobs:
        rows = [use_report.job_row(job) for job in jobs]
        out.table("jobs", use_report.JOB_COLUMNS, rows, brief=use_report.JOB_BRIEF)
        out.summary("")
    resources = [asdict(one) for one in found.resources]
    out.table("resources", use_report.COLUMNS, resources, brief=use_report.BRIEF)
    for line in use_report.sentences(found, not_ended):
        out.summary(line)
