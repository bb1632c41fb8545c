"""Shared by commands that stand for a program: what an interruption does to its job."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import click

from leruli.commands._common import HERE, is_answered
from leruli.errors import LeruliError
from leruli.folder.job_folder import JobFolder
from leruli.folder.record import mark_told
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient

# A shell shows a process that a signal ended with this plus the number of the signal.
_BY_SIGNAL = 128


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


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Return the exit code of a process that was interrupted."""
    is_terminated = isinstance(interruption, _Terminated)
    return _BY_SIGNAL + (signal.SIGTERM if is_terminated else signal.SIGINT)


def settle_job(out: Output, service: QueueClient) -> None:
    """Cancel the folder's job after an interruption, or leave it and say how to come back.

    A person at a terminal is asked. A second Ctrl-C leaves the job alone.
    """
    try:
        if is_asked() and not _wants_cancellation(out):
            out.complaint(GOES_ON)
            return
        _cancel(out, service)
    except (KeyboardInterrupt, click.Abort):
        out.complaint(f"\n{GOES_ON}")
    except LeruliError as error:
        out.complaint(f"The job could not be cancelled: {error} {GOES_ON}")


def _wants_cancellation(out: Output) -> bool:
    out.complaint("")
    return click.confirm("Cancel the job? Without it the job goes on", err=True)


def _cancel(out: Output, service: QueueClient) -> None:
    folder = JobFolder(HERE)
    jobid, bucket = folder.job(), folder.bucket()
    if jobid is None and bucket is not None:
        # The interruption came before the answer of the queue, which may have accepted the job.
        [jobid] = service.find_jobs([bucket])
    if jobid is None:
        out.note("No job was submitted.")
        return
    state = service.cancel(jobid)
    if bucket is not None and (not state.is_final or state.status == "cancelled"):
        mark_told(HERE, bucket)
    out.note(
        f"Job {jobid} was over already: {state}."
        if state.is_final and state.status != "cancelled"
        else f"Job {jobid} is cancelled."
    )
