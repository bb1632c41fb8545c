"""Shared by commands that stand for a program: what an interruption does to its job."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from leruli.commands._common import HERE, is_answered
from leruli.errors import LeruliError
from leruli.folder.job_folder import JobFolder
from leruli.folder.record import mark_told
from leruli.jobs.fetch import select_results
from leruli.jobs.purge import purge
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

#: What to say when the job of a folder goes on without its client.
GOES_ON = (
    "The job goes on. Run the same command again in this folder to see it, or cancel it with "
    "`leruli task-cancel`."
)


class _Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def is_asked() -> bool:
    """Whether an interruption asks a person before it cancels the job.

    Not for a process that belongs to another program, such as make: that program gets the Ctrl-C
    too, and waits for all of its processes to end.
    """
    return is_answered() and os.getpgrp() == os.getpid()


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does. Without it no code of ours would run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def die_of(interruption: KeyboardInterrupt) -> NoReturn:
    """End this process by the signal that interrupted it, so that a shell's loop ends too."""
    number = signal.SIGTERM if isinstance(interruption, _Terminated) else signal.SIGINT
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The signal is blocked here.
    sys.exit(128 + number)


def settle_job(out: Output, service: QueueClient, store: Store) -> None:
    """Cancel the folder's job after an interruption, or leave it and say how to come back.

    A person at a terminal is asked. A second Ctrl-C leaves the job alone.
    """
    try:
        if is_asked() and not _wants_cancellation(out):
            out.complaint(GOES_ON)
            return
    except (KeyboardInterrupt, click.Abort):
        out.complaint(f"\n{GOES_ON}")
        return
    out.note("Cancelling the job …")
    try:
        _cancel(out, service, store)
    except KeyboardInterrupt:
        out.complaint(
            "The queue has not answered, so the job may go on. `leruli task-status` says so, and "
            "`leruli task-cancel` cancels it."
        )
    except LeruliError as error:
        out.complaint(f"The job could not be cancelled: {error} {GOES_ON}")


def _wants_cancellation(out: Output) -> bool:
    out.complaint("")
    return click.confirm("Cancel the job? Without it the job goes on", err=True)


def _cancel(out: Output, service: QueueClient, store: Store) -> None:
    folder = JobFolder(HERE)
    jobid, bucket = folder.job(), folder.bucket()
    if jobid is None and bucket is not None:
        # The interruption came before the answer of the queue, which may have accepted the job.
        [jobid] = service.find_jobs([bucket])
    if jobid is None:
        out.note("No job was submitted.")
        return
    state = service.cancel(jobid)
    if state.is_final and state.status != "cancelled":
        out.note(f"Job {jobid} was over already: {state}.")
        return
    if bucket is not None:
        mark_told(HERE, bucket)
    out.note(f"Job {jobid} is cancelled.")
    if bucket is not None and state.is_final and not select_results(store, bucket):
        # It never ran.
        purge(store, bucket)
        folder.forget_bucket(bucket)
    else:
        out.note(
            "What it has written stays in the object storage: `leruli task-get` fetches it, and "
            "`leruli task-purge` deletes it."
        )
