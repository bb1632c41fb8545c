"""`leruli run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from leruli import settings
from leruli.commands._common import HERE, client_command
from leruli.commands._fetching import tell_end, tell_exceptions
from leruli.commands._following import bucket_of, follow_job, seldom
from leruli.commands._interruption import (
    GOES_ON,
    die_of,
    interrupted_by_sigterm,
    is_asked,
    settle_job,
)
from leruli.commands._job_options import RunCommand, Wanted, what_to_run
from leruli.commands._new_job import make_new
from leruli.commands._submission import send_prepared
from leruli.errors import BucketMissingError, LeruliError, RefusedError
from leruli.folder.job_folder import JobFolder
from leruli.folder.own_output import own_output
from leruli.folder.record import mark_told
from leruli.jobs.ending import QUEUE_FAILED, ending_of
from leruli.jobs.live_output import ERR, OUT
from leruli.jobs.submit import JobSpec, job_name, prepare
from leruli.terminal.job_output import JobOutput
from leruli.terminal.output import Output
from leruli.terminal.progress import progress
from leruli.terminal.state_line import StateLine

if TYPE_CHECKING:
    from leruli.jobs.placing import Fetched
    from leruli.service.queue_client import JobState, QueueClient
    from leruli.storage.store import Store


# 128 + SIGPIPE, as for a program whose reader has ended.
_NO_READER = 141


@click.command("run", cls=RunCommand)
@click.option("--strict", is_flag=True, help="Refuse a job that no machine can hold now.")
@click.option("--keep", is_flag=True, help="Leave input and results in the object storage too.")
@click.option("--no-fetch", is_flag=True, help="Leave the results in the object storage.")
@client_command(
    interrupted="The job is over. Run `leruli task-get` for the rest of its results.",
    error_code=QUEUE_FAILED,
)
@what_to_run(again=False, is_program=True)
def command(out: Output, wanted: Wanted, strict: bool, keep: bool, no_fetch: bool) -> int:
    """Run COMMAND with the image CODE:VERSION as a job, as if it ran here.

    Submits the current folder, prints the output of the job as it comes, fetches the results, and
    deletes the job's files from the object storage. Ends with the exit code of COMMAND, or with 124
    (time limit), 137 (out of memory), 143 (cancelled) or 125 (the queue failed). The same command
    again in the same folder goes on with a job that it was interrupted at.

    Ctrl-C asks whether to cancel the job. Without a terminal, SIGINT and SIGTERM cancel it.

    COMMAND in one word, in quotes, is a line of bash. Several words are a program and its
    arguments.
    """
    from leruli.jobs.submit_many import STAGERS
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    spec = JobSpec(**wanted.fields)
    spec.check()
    store = Store(settings.storage_settings(), connections=STAGERS, notice=out.note)
    with QueueClient(settings.service_settings(), seldom(out.note)) as service:
        run = _Run(out, service, store, is_fetching=not no_fetch, is_purging=not (keep or no_fetch))
        try:
            with interrupted_by_sigterm():
                jobid = run.start(wanted, spec, strict=strict)
                bucket = bucket_of(service, jobid, HERE)
                state = run.follow(jobid, bucket)
        except KeyboardInterrupt as interruption:
            settle_job(out, service, store)
            die_of(interruption)
        except BrokenPipeError:
            out.complaint(f"Nothing reads the output any more. {GOES_ON}")
            return _NO_READER
        return run.finish(jobid, bucket, state)


class _Run:
    """One job of the current folder, from its submission to its exit code."""

    def __init__(
        self,
        out: Output,
        service: QueueClient,
        store: Store,
        *,
        is_fetching: bool,
        is_purging: bool,
    ) -> None:
        self._out = out
        self._service = service
        self._store = store
        self._is_fetching = is_fetching
        self._is_purging = is_purging

    def start(self, wanted: Wanted, spec: JobSpec, *, strict: bool) -> str:
        """Submit the folder, or take up its job; return the job id."""
        from leruli.jobs.check import check_requests
        from leruli.jobs.run import job_to_take_up
        from leruli.jobs.submit import check_image

        out, service = self._out, self._service
        if wanted.new:
            for why in make_new(out, service, [HERE], with_results=True).values():
                raise RefusedError(why)
        jobid = job_to_take_up(service, HERE, spec, out.note)
        if jobid is not None:
            out.note(f"Going on with job {jobid}, which was submitted before.")
            return jobid
        leave_out = own_output(HERE)
        prepared = prepare(HERE, spec, with_results=wanted.with_results, leave_out=leave_out)
        check_image(self._store, service, spec)
        check_requests(service, [spec.request("", "default")], out.warn, strict=strict)
        return send_prepared(out, self._store, service, prepared)[0]

    def follow(self, jobid: str, bucket: str) -> JobState:
        """Print the output of the job until it is over; return how it ended."""
        # With --json the document alone is on standard output.
        streams = {OUT: sys.stderr if self._out.as_json else sys.stdout, ERR: sys.stderr}
        # A program that reads the output needs all of it. A person needs the end of it.
        is_whole = not all(stream.isatty() for stream in streams.values())
        is_alone = is_asked()
        try:
            state = follow_job(
                *(self._out, self._service, self._store, jobid, bucket),
                {name: JobOutput(stream) for name, stream in streams.items()},
                StateLine(self._out, is_live=is_alone),
                name=None if is_alone else job_name(HERE),
                is_whole=is_whole,
            )
        except LeruliError:
            self._out.note(f"Job {jobid} goes on. Run the same command again to come back to it.")
            raise
        return state or self._service.status(jobid)

    def finish(self, jobid: str, bucket: str, state: JobState) -> int:
        """Fetch the results, tell how the job ended, and return the exit code."""
        ending = ending_of(self._service, jobid, state)
        if state.status != "completed":
            tell_end(self._out, state)
        fetched = self._fetch(bucket) if self._is_fetching else None
        mark_told(HERE, bucket)
        is_whole = fetched is not None and not fetched.all_refused and not fetched.differences()
        is_purged = self._is_purging and is_whole and self._purge(bucket)
        document: dict[str, Any] = {
            "jobid": jobid,
            "bucket": bucket,
            "status": state.status,
            "reason": state.reason,
            "outcome": ending.outcome,
            "exitcode": ending.code,
            "files": fetched.files if fetched else [],
            "purged": is_purged,
        }
        self._out.result("", document)
        return ending.code or (0 if is_whole or not self._is_fetching else QUEUE_FAILED)

    def _fetch(self, bucket: str) -> Fetched:
        from leruli.folder.local_files import LocalFiles
        from leruli.jobs.fetch import fetch, select_results

        items = select_results(self._store, bucket)
        total = sum(item.size for item in items)
        local = LocalFiles.of(HERE, bucket)
        with progress("Fetching", total, visible=self._out.shows_progress) as advance:
            fetched = fetch(self._store, bucket, items, HERE, advance, local=local, is_over=True)
        tell_exceptions(self._out, fetched)
        return fetched

    def _purge(self, bucket: str) -> bool:
        """Delete the bucket of the job, unless something is only there; return whether it is gone.

        The job is done and its results are here. So a failure is told and is no error.
        """
        from leruli.folder.provenance import provenance_of
        from leruli.jobs.purge import purge, why_keep

        try:
            if why_keep(self._store, bucket, HERE, provenance_of(HERE), completed=True):
                return False
            purge(self._store, bucket)
            JobFolder(HERE).forget_bucket(bucket)
        except BucketMissingError:
            return True  # another `leruli run` in this folder has done it
        except LeruliError as error:
            # A refusal names --force, which this command does not have.
            hint = " This is an option of `leruli task-purge`."
            hint = hint if isinstance(error, RefusedError) else ""
            self._out.note(f"The files of the job stay in the object storage: {error}{hint}")
            return False
        return True
