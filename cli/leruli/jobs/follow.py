"""Following one job until it is over: its state, and its output as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from leruli.cancellation import StoppedError, StopSwitch
from leruli.errors import (
    LeruliError,
    NotFoundError,
    SecretRefusedError,
    ServiceError,
    StorageError,
    UnknownCallError,
)
from leruli.jobs.live_output import LiveStream
from leruli.jobs.wait import Wait
from leruli.service.queue_client import JobState, QueueClient

# Following ends 30 s after the last call.
_CALL_S = 10.0
# Between two looks at the live objects.
_LOOK_S = 1.0

_RUNNING = "running"

NO_LIVE_OUTPUT = (
    "The queue is older than this client and shows no output of a job that runs. All output comes "
    "when the job is over."
)


class Follower:
    """Follows a job.

    Parameters
    ----------
    service
        Makes the calls.
    jobid
        The job.
    streams
        Its streams, by their LiveStream.
    told
        Takes each state of the job that is not the end, and again after each change.
    notice
        Takes a sentence about something unusual.
    timeout_s
        How long to follow; None: until the job is over.
    """

    def __init__(
        self,
        service: QueueClient,
        jobid: str,
        streams: Sequence[LiveStream],
        *,
        told: Callable[[JobState], None] = lambda _: None,
        notice: Callable[[str], None] = lambda _: None,
        timeout_s: float | None = None,
    ) -> None:
        self._service = service
        self._jobid = jobid
        self._streams = streams
        self._told = told
        self._notice = notice
        self._news = threading.Event()
        self._changes: list[JobState] = []
        self._end: JobState | LeruliError | None = None
        self._is_over = False
        self._switch = StopSwitch(lambda _: None)
        self._wait = Wait(
            service,
            [jobid],
            timeout_s=timeout_s,
            is_eager=True,
            check_cancelled=self._switch.check_cancelled,
            changed=self._note,
        )
        self._status = ""
        self._attempt = 0
        self._has_live_output = True
        self._is_store_away = self._is_queue_away = False

    def follow(self) -> JobState | None:
        """Follow the job; return how it ended, or None if the time has passed before.

        Raises LeruliError if the state of the job cannot be read.
        """
        waiter = threading.Thread(target=self._wait_for_end, daemon=True)
        waiter.start()
        next_call = 0.0
        try:
            while not self._is_over:
                self._news.clear()
                began_to_run = self._tell_changes()
                if began_to_run or time.monotonic() >= next_call:
                    self._call()
                    next_call = time.monotonic() + _CALL_S
                self._look()
                if not self._is_over:
                    self._news.wait(_LOOK_S)
        finally:
            self._switch.switch_off()
        if isinstance(self._end, LeruliError):
            raise self._end
        if self._end is not None:
            self._call()  # the last attempt may be a newer one
            for stream in self._streams:
                stream.store.retry.run(stream.finish, lambda: None)
        return self._end

    def _wait_for_end(self) -> None:
        """Wait for the end, in a thread. A call of it may last most of a minute."""
        try:
            for some in self._wait.ends():
                self._end = some.get(self._jobid, self._end)
        except StoppedError:
            return
        except LeruliError as error:
            self._end = error
        finally:
            self._is_over = True
            self._news.set()

    def _note(self, _: str, state: JobState) -> None:
        self._changes.append(state)
        self._news.set()

    def _tell_changes(self) -> bool:
        """Tell the states that came; return whether the job began to run, or did so again."""
        before = self._status
        while self._changes:
            state = self._changes.pop(0)
            self._status = state.status
            self._told(state)
        return self._status == _RUNNING != before

    def _call(self) -> None:
        try:
            if not self._has_live_output:
                self._told_unless_over(self._service.status(self._jobid))
                return
            found = self._service.follow(self._jobid)
        except UnknownCallError:
            self._has_live_output = False
            self._notice(NO_LIVE_OUTPUT)
            return
        except (NotFoundError, SecretRefusedError):
            raise
        except ServiceError:
            if not self._is_queue_away:
                self._is_queue_away = True
                self._notice("The queue does not answer. The job goes on; asking again.")
            return
        self._is_queue_away = False
        self._told_unless_over(found.state)
        self._begin(found.attempt or 0)

    def _told_unless_over(self, state: JobState) -> None:
        if not state.is_final:
            self._status = state.status
            self._told(state)

    def _begin(self, attempt: int) -> None:
        if attempt <= self._attempt:
            return
        has_output = any(stream.position for stream in self._streams)
        if has_output:
            self._notice(
                f"The job began again, as attempt {attempt}. Its output begins again here."
            )
        self._attempt = attempt
        for stream in self._streams:
            stream.begin(attempt)

    def _look(self) -> None:
        """Give the new output. While the storage does not answer there is none."""
        if not self._attempt or self._status != _RUNNING:
            return
        try:
            for stream in self._streams:
                stream.advance()
            self._is_store_away = False
        except StorageError as error:
            if not self._is_store_away:
                self._notice(f"{error} The output goes on when the storage answers again.")
            self._is_store_away = True
