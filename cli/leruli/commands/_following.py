"""Following a job, with its output on the client's streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from leruli.folder.job_folder import JobFolder
from leruli.jobs.references import short_id
from leruli.terminal.output import Output
from leruli.terminal.state_line import StateLine
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.service.queue_client import JobState, QueueClient
    from leruli.storage.store import Store

_MB = 1_000_000
# Between two sentences about a queue that does not answer.
_SELDOM_S = 30.0

#: Takes bytes that a job wrote.
Sink = Callable[[bytes], object]


def seldom(notice: Callable[[str], None]) -> Callable[[str], None]:
    """Return a function that gives sentences to `notice`, of many in a short time only the first.

    Two threads ask the queue while a job is followed. Each would tell each try of an outage.
    """
    told = -_SELDOM_S
    lock = threading.Lock()

    def tell(text: str) -> None:
        nonlocal told
        with lock:
            if time.monotonic() - told < _SELDOM_S:
                return
            told = time.monotonic()
        notice(text)

    return tell


def bucket_of(service: QueueClient, jobid: str, directory: str) -> str:
    """Return the bucket of a job: from the folder if the job is its own, else from the queue."""
    folder = JobFolder(directory)
    own = folder.bucket() if folder.job() == jobid else None
    return own or service.bucket(jobid)


def amount(size: int) -> str:
    """Return a number of bytes for a person."""
    return counted(size, "byte") if size < _MB else f"{size / _MB:.1f} MB"


def follow_job(
    out: Output,
    service: QueueClient,
    store: Store,
    jobid: str,
    bucket: str,
    sinks: Mapping[str, Sink],
    line: StateLine,
    *,
    name: str | None = None,
    is_whole: bool = False,
    timeout: float | None = None,
) -> JobState | None:
    """Follow a job until it is over; return how it ended, None if `timeout` has passed before.

    Parameters
    ----------
    sinks
        What to do with the output, by OUT and ERR of `leruli.jobs.live_output`.
    line
        Shows the state until the first output.
    name
        What the line says beside the id, where several jobs may be followed at once.
    is_whole
        Never leave out a part of the output: what live objects lack comes when the job is over.
    timeout
        Seconds to follow.
    """
    from leruli.jobs.follow import Follower
    from leruli.jobs.live_output import LiveStream

    has_output = False
    shown = f"Job {short_id(jobid)}" if name is None else f"{name} ({short_id(jobid)})"

    def told(state: JobState) -> None:
        nonlocal has_output
        has_output = has_output and state.status == "running"
        if not has_output:
            line.show(state.status, f"{shown} is {state}")

    def notice(text: str) -> None:
        line.clear()
        out.note(text)

    def skipped(size: int) -> None:
        notice(f"… {amount(size)} of output were skipped. The log has all when the job is over.")

    def writing(sink: Sink) -> Sink:
        def write(data: bytes) -> None:
            nonlocal has_output
            has_output = True
            line.clear()
            sink(data)

        return write

    streams = [
        LiveStream(store, bucket, name, writing(sink), skipped, is_whole)
        for name, sink in sinks.items()
    ]
    try:
        return Follower(
            service, jobid, streams, told=told, notice=notice, timeout_s=timeout
        ).follow()
    finally:
        line.clear()
