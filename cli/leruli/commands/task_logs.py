"""`leruli task-logs`."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from leruli import settings
from leruli.commands._common import HERE, client_command, is_answered, job_here
from leruli.commands._following import Sink, amount, bucket_of, follow_job, seldom
from leruli.commands._provenance import check_own
from leruli.commands._waiting import CANCELLED, FAILED, TIME_OVER, timeout_option
from leruli.errors import NotFoundError, UnknownCallError
from leruli.folder.job_folder import JobFolder
from leruli.jobs.live_output import ERR, LOGS, OUT, LiveStream
from leruli.terminal.job_output import JobOutput
from leruli.terminal.output import Output
from leruli.terminal.state_line import StateLine

if TYPE_CHECKING:
    from leruli.service.queue_client import JobState, QueueClient
    from leruli.storage.store import Store

# How long the first live output may take.
_FIRST_OUTPUT_S = 3.0
_LOOK_S = 0.3

_CODES = {"completed": 0, "failed": FAILED, "cancelled": CANCELLED}


@click.command("task-logs")
@click.option("-f", "--follow", is_flag=True, help="Print the output as it comes, until the end.")
@click.option("--err", is_flag=True, help="Standard error of the job, not standard output.")
@timeout_option
@click.argument("jobid", required=False)
@client_command(
    interrupted="The job goes on. Run `leruli task-logs -f` to follow its output again."
)
def command(out: Output, follow: bool, err: bool, timeout: float | None, jobid: str | None) -> int:
    """Print what a job wrote on standard output: JOBID, or the current folder's job.

    After the job that is joblog.txt, with --err joberr.txt. While the job runs it is what there is
    now, at most the last 64 KiB.

    With -f the output is printed as it comes until the job is over. The exit code then says how it
    ended: 0 completed, 10 failed, 11 cancelled, 12 --timeout has passed. Ctrl-C ends that and not
    the job.
    """
    if timeout is not None and not follow:
        raise click.UsageError("--timeout goes with --follow.")
    settings.require(settings.ALL)
    service_settings, storage_settings = settings.service_settings(), settings.storage_settings()
    if jobid is None or Path(jobid).is_dir():
        check_own(jobid or HERE)
    directory = HERE if jobid is None else jobid

    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

    store = Store(storage_settings, notice=out.note)
    with QueueClient(service_settings, seldom(out.note)) as service:
        jobid = job_here(jobid, service)
        logs = _Logs(out, service, store, jobid, directory, ERR if err else OUT)
        if follow:
            return logs.follow(timeout)
        return logs.show()


class _Logs:
    """Prints one stream of one job."""

    def __init__(
        self,
        out: Output,
        service: QueueClient,
        store: Store,
        jobid: str,
        directory: str,
        stream: str,
    ) -> None:
        self._out = out
        self._service = service
        self._store = store
        self._jobid = jobid
        self._directory = directory
        self._stream = stream
        self._bucket = bucket_of(service, jobid, directory)

    def follow(self, timeout: float | None) -> int:
        """Print the output as it comes; return the exit code."""
        # With --json the document alone is on standard output.
        sink = JobOutput(sys.stderr if self._out.as_json else sys.stdout)
        line = StateLine(self._out, is_live=is_answered())
        state = self._service.status(self._jobid)
        end: JobState | None = state
        if state.is_final:
            self._print_log(sink, state)
        else:
            sinks = {self._stream: sink}
            end = follow_job(
                *(self._out, self._service, self._store, self._jobid, self._bucket, sinks, line),
                timeout=timeout,
            )
        if end is None:
            self._out.complaint("The job is not over yet; it goes on.")
        elif self._out.as_json or end.status != "completed":
            self._out.note(f"The job is {_ended(end)}")
        self._out.result("", self._document(end) if self._out.as_json else {})
        return TIME_OVER if end is None else _CODES[end.status]

    def show(self) -> int:
        """Print what there is now; return the exit code."""
        text = io.BytesIO()
        sink: Sink = text.write if self._out.as_json else JobOutput(sys.stdout)
        state = self._service.status(self._jobid)
        if not state.is_final and not (state.status == "running" and self._show_live(sink)):
            state = self._service.status(self._jobid)
            if not state.is_final:
                self._out.note(f"There is no output yet. The job is {_ended(state)}")
        if state.is_final:
            self._print_log(sink, state)
        document = {**self._document(state), "text": text.getvalue().decode(errors="replace")}
        self._out.result("", document)
        return 0

    def _show_live(self, sink: Sink) -> bool:
        """Print the output of a job that runs; return whether there was any within a short time."""
        from leruli.jobs.follow import NO_LIVE_OUTPUT

        try:
            found = self._service.follow(self._jobid)
        except UnknownCallError:
            self._out.note(NO_LIVE_OUTPUT)
            return True
        if found.state.status != "running" or found.attempt is None:
            return False
        stream = LiveStream(self._store, self._bucket, self._stream, sink, self._tell_skipped)
        stream.begin(found.attempt)
        until = time.monotonic() + _FIRST_OUTPUT_S
        while not stream.advance():
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_S)
        return True

    def _tell_skipped(self, size: int) -> None:
        self._out.note(f"… the {amount(size)} before this are not shown.")

    def _print_log(self, sink: Sink, state: JobState) -> None:
        """Print the log of a job that is over. Raises NotFoundError."""
        stream = LiveStream(self._store, self._bucket, self._stream, sink, lambda _: None)
        if self._store.retry.run(stream.finish, lambda: None):
            return
        name = LOGS[self._stream]
        local = Path(self._directory, name)
        # A purge deletes the bucket. The folder may have fetched the log before.
        folder = JobFolder(self._directory)
        if folder.job() == self._jobid and folder.bucket() is None and local.is_file():
            with local.open("rb") as file:
                while data := file.read(1024 * 1024):
                    sink(data)
            return
        raise NotFoundError(
            f"There is no {name} of this job in the storage: the job did not run, or its bucket "
            f"was purged. The job is {_ended(state)}"
        )

    def _document(self, state: JobState | None) -> dict[str, Any]:
        return {
            "jobid": self._jobid,
            "isover": state is not None and state.is_final,
            "status": None if state is None else state.status,
            "reason": None if state is None else state.reason,
            "stream": self._stream,
        }


def _ended(state: JobState) -> str:
    """Return a state as the end of a sentence."""
    return f"{str(state).rstrip('.')}."
