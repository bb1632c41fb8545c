"""Time and disk limits of jobs in shared containers.

The watcher does this for containers that run one attempt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from leruli_node.attempts.store import AttemptStore
from leruli_node.attempts.watcher import is_memory_full
from leruli_node.clock import boottime
from leruli_node.container.disk_use import DiskMeter, Disks, DiskUse
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.model import AttemptId, AttemptState

log = logging.getLogger(__name__)


class SharedMeter:
    """Measures the disk space of a job in a shared container.

    What earlier jobs left in the container's own layer does not count: it is measured when the job
    is measured first, within its first seconds.
    """

    def __init__(self, meter: DiskMeter, engine: DockerEngine) -> None:
        self._meter = meter
        self._engine = engine
        self._rundirs: dict[str, Path] = {}
        self._left: dict[str, int] = {}

    def runs_in(self, attempt_key: str, rundir: Path) -> None:
        """Note the folder of an attempt's files. Only one attempt is there at a time."""
        self._rundirs = {key: path for key, path in self._rundirs.items() if path != rundir}
        self._rundirs[attempt_key] = rundir
        self._left = {key: size for key, size in self._left.items() if key in self._rundirs}

    def measure(self, attempt_key: str, container: str) -> int | None:
        """Return the bytes on disk, None if they could not be counted completely."""
        rundir = self._rundirs.get(attempt_key)
        if rundir is None:
            return None
        try:
            folder = self._engine.layer_folder(container)
            layer = self._engine.layer_bytes(container) if folder is None else None
        except (DockerUnavailableError, DockerRefusedError):
            return None
        if folder is not None:
            layer = self._meter.du([folder])
        own = self._meter.du([str(rundir)])
        if layer is None or own is None:
            return None
        left = self._left.setdefault(attempt_key, layer)
        return own + max(0, layer - left)


class SharedLimits:
    """Ends jobs that reached a limit: TERM, then KILL after the grace."""

    def __init__(self, store: AttemptStore, meter: SharedMeter, disks: Disks, grace: float) -> None:
        self._store = store
        self._meter = meter
        self._disk_use = DiskUse(meter, disks)
        self._disks = disks
        # Seconds between TERM and KILL.
        self._grace = grace
        # When TERM was sent, by the attempt's key.
        self._termed: dict[str, float] = {}

    def begins(self, attempt: AttemptId, rundir: Path) -> None:
        """Note where an attempt's files are."""
        self._meter.runs_in(attempt.key, rundir)
        known = {state.id.key for state in self._store.all()}
        self._disk_use.forget_all_but(known)
        self._termed = {key: at for key, at in self._termed.items() if key in known}

    def left(self, state: AttemptState) -> float:
        """Return the seconds until the time limit; negative when it is over."""
        if state.grant is None or state.started_boottime is None:
            return 1.0
        return state.started_boottime + state.grant.timelimit - boottime()

    def enforce(self, attempt: AttemptId, container: str, signal: Callable[[str], None]) -> None:
        """Look once at an attempt that runs. `signal` takes TERM or KILL."""
        state = self._store.update(
            attempt, durable=False, machine_full=is_memory_full() or self._was_full(attempt)
        )
        if state is None or state.grant is None:
            return
        if self._disks.is_full():
            state = self._store.update(attempt, durable=False, disk_full=True) or state
        if state.time_limit_at is None and self.left(state) <= 0:
            # Before the signal: the reason must survive the agent.
            state = self._store.update(attempt, time_limit_at=time.time()) or state
            log.info("time limit reached", extra=attempt.log_fields)
        if state.disk_over_at is None and self._is_over_disk(state, container):
            state = self._store.update(attempt, disk_over_at=time.time()) or state
            log.info("disk limit reached", extra=attempt.log_fields)
        if state.time_limit_at is None and state.disk_over_at is None:
            return
        since = self._termed.setdefault(attempt.key, time.monotonic())
        signal("KILL" if time.monotonic() - since >= self._grace else "TERM")

    def _was_full(self, attempt: AttemptId) -> bool:
        state = self._store.get(attempt)
        return state is not None and state.machine_full

    def _is_over_disk(self, state: AttemptState, container: str) -> bool:
        if state.grant is None or not state.grant.diskmb:
            return False
        limit = state.grant.diskmb * 2**20
        used = self._disk_use.of(state.id.key, container, limit)
        if used is None:
            return False
        megabytes = -(-used // 2**20)
        if megabytes > (state.peak_disk_mb or 0):
            self._store.update(state.id, durable=False, peak_disk_mb=megabytes)
        return used > limit
