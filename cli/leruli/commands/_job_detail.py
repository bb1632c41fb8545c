"""The output of task-status for one job."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leruli.errors import LeruliError, UnknownCallError
from leruli.folder.job_folder import JobFolder
from leruli.jobs.exit_codes import explain
from leruli.jobs.references import short_id
from leruli.terminal.output import Output, printable

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient

_NO_BUCKET = "no leruli.bucket here: they were purged, or `leruli task-get` finds them"


def show_job(out: Output, service: QueueClient, jobid: str, directory: str) -> None:
    """Print the state of a job. With --json and on a terminal print all details.

    If `directory` is the job's folder, its command and bucket are printed too.
    """
    is_for_people = sys.stdout.isatty() and not out.quiet
    detail = _detail(service, jobid) if out.as_json or is_for_people else None
    if detail is not None and not out.as_json:
        from leruli.terminal.job_report import print_job

        command, files = _of_folder(jobid, directory)
        print_job(detail, command, files, printable)
        return
    if detail is None:
        state = service.status(jobid)
        status, reason = state.status, state.reason
    else:
        status, reason = str(detail["state"]), detail.get("reason")
    document: dict[str, Any] = {"jobid": jobid, "status": status, "reason": reason}
    if detail is not None:
        document["detail"] = detail
    out.result(status if reason is None else f"{status}: {reason}", document)
    meaning = explain(status, reason)
    if meaning:
        out.note(meaning)


def _detail(service: QueueClient, jobid: str) -> Mapping[str, Any] | None:
    try:
        return service.detail(jobid)
    except UnknownCallError:  # an older service
        return None


def _of_folder(jobid: str, directory: str) -> tuple[str | None, str]:
    """Return the command, None if the folder does not know it, and where the files are."""
    folder = JobFolder(directory)
    elsewhere = f"`leruli task-get --job {short_id(jobid)}` fetches the results"
    try:
        if folder.job() != jobid:
            return None, elsewhere
        bucket = folder.bucket()
        from leruli.folder.record import read_record

        record = read_record(directory)
    except LeruliError:  # an unreadable folder must not hide the state
        return None, elsewhere
    # A purge deletes leruli.bucket. The record still belongs to the job then.
    knows_job = record is not None and bucket in (record.bucket, None)
    command = record.spec.get("command") if record is not None and knows_job else None
    return command, f"bucket {bucket}" if bucket else _NO_BUCKET
