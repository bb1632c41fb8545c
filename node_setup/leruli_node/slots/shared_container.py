"""One shared container: made, connected, given one job after the other, ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from leruli_node.attempts.decide import SAMPLED_S
from leruli_node.clock import boottime
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.model import AttemptId
from leruli_node.slots.made import own_folders
from leruli_node.slots.memory_peak import MemoryPeak
from leruli_node.slots.runner_line import Line, LineLostError, Report, RunnerEnd, RunnerSocket
from leruli_node.slots.shared_folder import JobEnd, SharedFolder, SharedRecord, changed

log = logging.getLogger(__name__)

# Seconds in which the runner connects. On a busy machine its start takes a second.
_CONNECTS_IN_S = 20.0
# Seconds between two looks whether the container lives that is to connect.
_LOOKS_EVERY_S = 2.0
# Seconds after which a runner that lives answers an order.
_ANSWERS_IN_S = 10.0
# Seconds in which processes end after KILL. Then the container is ended.
_DIES_IN_S = 15.0


class SharedContainer:
    """A shared container and its record. One thread at a time runs its jobs; any thread signals."""

    def __init__(
        self, record: SharedRecord, folder: SharedFolder, engine: DockerEngine, job_folders: Path
    ) -> None:
        self.record = record
        self.folder = folder
        self._engine = engine
        self._job_folders = job_folders
        self._line: Line | None = None
        self._lock = threading.Lock()
        # One thread reads the line, and moves files in or out.
        self._reading = threading.Lock()
        self._memory: MemoryPeak | None = None
        # The highest peak that is not this job's, in bytes.
        self._peak_before = 0
        # The highest sample of the present job, in bytes.
        self._peak_no_cache = 0
        self._killed_at: float | None = None
        self._reported: Report | None = None
        self.last_used = time.monotonic()
        # The container ended, or must run nothing further.
        self.is_over = False

    @property
    def name(self) -> str:
        """Docker's name of the container."""
        return f"leruli-shared-{self.record.id}"

    def make(self, described: dict[str, Any]) -> None:
        """Make the container and wait for its runner.

        Raises
        ------
        DockerRefusedError, DockerUnavailableError, OSError
            It cannot be made, or its runner does not connect.
        """
        self.folder.make(own_folders(described, self.folder.path))
        self.folder.save(self.record)
        listener = RunnerSocket(self.folder.control)
        try:
            self._engine.create(self.name, described)
            self._engine.start(self.name)
            if not self._connect(listener):
                raise DockerRefusedError("the runner of a shared container did not connect")
        finally:
            listener.close()

    def is_ready(self) -> bool:
        """Return whether the runner is there and waits for a job."""
        with self._reading:
            if self.is_over:
                return False
            try:
                line = self._connected()
                while self._next_report(line, 0.0) is not None:
                    pass
            except (LineLostError, DockerRefusedError, OSError):
                self._disconnect()
                self.is_over = True
            return not self.is_over

    def begin(self, attempt: AttemptId, environment: Sequence[str]) -> None:
        """Run an attempt whose files are in its own folder. It can be repeated after a crash.

        Raises
        ------
        LineLostError, OSError, DockerUnavailableError, DockerRefusedError
            The container cannot run it.
        """
        # The attempt before is settled by another thread, which may move its files out again.
        with self._reading:
            self._begin(attempt, environment)

    def _begin(self, attempt: AttemptId, environment: Sequence[str]) -> None:
        line = self._connected()
        self.last_used = time.monotonic()
        if self.record.current != attempt:
            self.folder.empty()
            self.record = changed(self.record, attempt, time.time(), boottime())
            self.folder.save(self.record)
        self._killed_at = None
        self._peak_no_cache = 0
        self.folder.move_in(self._job_folders / attempt.key)
        if self._memory is not None and self._memory.reset():
            self._peak_before = 0
        line.order("run", attempt.id, environment=list(environment))
        while (report := self._next_report(line, _ANSWERS_IN_S)) is not None:
            if report.job == attempt.id:
                return
            # Otherwise it answers an earlier order, such as a signal to the job before.
            if report.refused:
                raise LineLostError(f"the runner does not run the job: {report.refused}")
        raise LineLostError("the runner does not answer")

    def has_begun(self, attempt: AttemptId) -> bool:
        """Return whether the runner got the order to run this attempt."""
        if self.record.current != attempt:
            return False
        try:
            self._connected()
        except (LineLostError, DockerUnavailableError, DockerRefusedError, OSError):
            # Nobody can tell any more. It is not run twice.
            return True
        return self._reported is not None and self._reported.job == attempt.id

    def wait(self, attempt: AttemptId, seconds: float) -> bool:
        """Wait for the end of the attempt. Return whether it is over.

        Raises
        ------
        DockerUnavailableError, OSError
            Docker does not answer, or the disk failed.
        """
        with self._reading:
            return self._wait(attempt, seconds)

    def _wait(self, attempt: AttemptId, seconds: float) -> bool:
        if self.record.current != attempt:
            return True
        job = self._job_folders / attempt.key
        if JobEnd.read(job) is not None:
            # An agent before this one may have been killed while it moved the files.
            self.folder.move_out(job)
            return True
        self._end_if_deaf()
        try:
            end = self._await_end(attempt, seconds)
        except LineLostError:
            self._disconnect()
            return self._is_gone()
        except DockerRefusedError:
            return self._is_gone()
        if end is not None:
            self._note_end(attempt, end)
        elif self._memory is not None:
            self._peak_no_cache = max(self._peak_no_cache, self._memory.without_cache() or 0)
        return end is not None

    def _await_end(self, attempt: AttemptId, seconds: float) -> RunnerEnd | None:
        deadline = time.monotonic() + seconds
        line = self._connected()
        report = self._reported
        while report is None or report.end is None or report.job != attempt.id:
            # Each order is answered by a report, also a signal.
            report = self._next_report(line, max(0.0, deadline - time.monotonic()))
            if report is None:
                return None
        return report.end

    def signal(self, attempt: AttemptId, name: str) -> None:
        """Send TERM or KILL to the processes of the attempt. Raises OSError."""
        with self._lock:
            if self.record.current != attempt:
                return
            if not self.record.is_signalled:
                # Before the signal: the reason of the job's end survives the agent.
                self.record = replace(self.record, is_signalled=True)
                self.folder.save(self.record)
            line = self._line
        if name == "KILL" and self._killed_at is None:
            self._killed_at = time.monotonic()
        if line is not None:
            try:
                line.order("signal", attempt.id, signal=name)
            except LineLostError as error:
                log.warning("the runner gets its %s later: %s", name, error)

    def end(self) -> None:
        """End the container and remove its folder. Raises DockerUnavailableError and its like."""
        self.is_over = True
        self._disconnect()
        if self._memory is not None:
            self._memory.close()
        self._engine.remove(self.name)
        self.folder.remove()

    def own_peak_bytes(self, end: RunnerEnd) -> int:
        """Return the peak of memory of the job that ended."""
        noted = self._memory.read() if self._memory is not None else None
        peak = noted if noted is not None and self._peak_before == 0 else end.peak_bytes
        if peak > self._peak_before:
            return peak
        # An earlier job used more. The largest process of this one is known all the same.
        return end.largest_process_bytes

    def _own_without_cache(self, end: RunnerEnd, peak: int) -> int:
        """Return the peak without page cache of the job that ended; 0 if it is not known."""
        cache = self._memory.cache() if self._memory is not None else None
        if cache is None or end.wall_s >= SAMPLED_S:
            return self._peak_no_cache
        # The peak is the cgroup's, or that of a process, which has hardly any page cache.
        noted = peak - cache if peak > self._peak_before else peak
        return max(noted, self._peak_no_cache)

    def _note_end(self, attempt: AttemptId, end: RunnerEnd) -> None:
        peak = self.own_peak_bytes(end)
        no_cache = self._own_without_cache(end, peak)
        self._peak_before = max(self._peak_before, end.peak_bytes)
        record = self.record
        self._save_end(
            attempt,
            JobEnd(
                exit_code=end.exit_code,
                started_at=record.started_at,
                started_boottime=record.started_boottime,
                wall_s=end.wall_s,
                cpu_s=end.cpu_s,
                peak_bytes=peak,
                peak_no_cache_bytes=no_cache,
                is_out_of_memory=end.oom_kills > 0,
                is_signalled=record.is_signalled,
            ),
        )
        if end.unclean:
            log.warning("a shared container is ended: %s", end.unclean, extra=attempt.log_fields)
            self.is_over = True

    def _save_end(self, attempt: AttemptId, end: JobEnd) -> None:
        job = self._job_folders / attempt.key
        end.save(job)
        self.folder.move_out(job)
        self.last_used = time.monotonic()

    def _connected(self) -> Line:
        """Return the line, after a lost one or in a new agent a new one."""
        if self._line is None:
            listener = RunnerSocket(self.folder.control)
            try:
                if not self._connect(listener):
                    raise LineLostError("the runner does not connect")
            finally:
                listener.close()
        if self._line is None:
            raise LineLostError("the runner does not connect")
        return self._line

    def _connect(self, listener: RunnerSocket) -> bool:
        deadline = time.monotonic() + _CONNECTS_IN_S
        while time.monotonic() < deadline:
            inspected = self._engine.inspect(self.name)
            state = inspected["State"] if inspected is not None else {}
            pid = int(state.get("Pid") or 0)
            if not state.get("Running") or pid <= 0:
                self.is_over = True
                return False
            line = listener.accept(pid, _LOOKS_EVERY_S)
            if line is not None:
                self._line = line
                if self._memory is None:
                    self._memory = MemoryPeak(pid)
                return self._next_report(line, _ANSWERS_IN_S) is not None
        return False

    def _next_report(self, line: Line, timeout: float) -> Report | None:
        report = line.report(timeout)
        if report is not None:
            self._reported = report
        return report

    def _disconnect(self) -> None:
        line, self._line, self._reported = self._line, None, None
        if line is not None:
            line.close()

    def _end_if_deaf(self) -> None:
        """End a container whose runner does not end its job."""
        if self._killed_at is not None and time.monotonic() - self._killed_at > _DIES_IN_S:
            log.warning("a shared container is ended: its job does not die")
            self.is_over = True
            self._engine.signal(self.name, "KILL")

    def _is_gone(self) -> bool:
        """Return whether the container runs no more; then its files are moved back."""
        try:
            inspected = self._engine.inspect(self.name)
        except DockerRefusedError:
            return False
        if inspected is not None and inspected["State"].get("Running"):
            return False
        self.is_over = True
        record = self.record
        if record.current is not None:
            is_oom = inspected is not None and bool(inspected["State"].get("OOMKilled"))
            self._save_end(
                record.current,
                JobEnd(
                    exit_code=None,
                    started_at=record.started_at,
                    started_boottime=record.started_boottime,
                    is_out_of_memory=is_oom,
                    is_signalled=record.is_signalled,
                ),
            )
        return True
