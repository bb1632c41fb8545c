"""Watches running containers: their start, their limits, their use of memory and disk.

A time limit counts by CLOCK_BOOTTIME, as the service's limits do: setting the time does not move
it, and suspended time counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leruli_node.attempts.store import AttemptStore
from leruli_node.clock import boottime, process_start, wall_offset
from leruli_node.container.disk_use import Disks, DiskUse
from leruli_node.container.docker_answers import Listed, container_facts
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.errors import StoppedError
from leruli_node.identity import NodeIdentity
from leruli_node.model import DECIDED, STAGED, AttemptId, AttemptState

log = logging.getLogger(__name__)

_PERIOD_S = 1.0
_SAMPLE_PERIOD_S = 5.0
_YOUNG_S = 20.0
# Nomad asks for stage-out within seconds. After this time (s) it has lost the allocation, for
# instance because its data_dir was wiped. Then the agent ends the attempt by itself.
UNCLAIMED_ENDED_S = 300.0
UNCLAIMED_NEVER_STARTED_S = 1800.0
# Nomad ends the container of a cancelled job within its kill_timeout, 30 s. After this time (s) it
# does not know the container any more.
CANCEL_TIMEOUT_S = 60.0
# Part of the machine's memory. The kernel kills a process when none is left; a second before that
# there is a little more.
_ALMOST_NO_MEMORY = 0.05


class Watcher:
    """One thread that checks all own containers about every second."""

    def __init__(
        self,
        store: AttemptStore,
        engine: DockerEngine,
        identity: NodeIdentity,
        grace: float,
        finish: Callable[[AttemptId], object],
        disk_use: DiskUse,
        disks: Disks,
        unclaimed_ended_s: float = UNCLAIMED_ENDED_S,
        unclaimed_never_started_s: float = UNCLAIMED_NEVER_STARTED_S,
        cancelled: float = CANCEL_TIMEOUT_S,
        is_in_slot: Callable[[AttemptState], bool] = lambda _: False,
    ) -> None:
        """Build the watcher. `is_in_slot` tells whether an open slot cares for an attempt."""
        self._store = store
        self._engine = engine
        self._identity = identity
        self._grace = grace
        self._finish = finish
        self._disk_use = disk_use
        self._disks = disks
        self._unclaimed_ended_s = unclaimed_ended_s
        self._unclaimed_never_started_s = unclaimed_never_started_s
        self._cancelled_after = cancelled
        self._is_in_slot = is_in_slot
        self._stop = threading.Event()
        # These facts are only in memory; the next agent starts without them.
        self._termed: dict[str, float] = {}
        self._sampled: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}
        self._cancelled: dict[str, float] = {}
        self._finishing: set[str] = set()
        self._docker_away = False
        self._machine_full = self._disk_full = False
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def cancel(self, attempt: AttemptId) -> None:
        """End a cancelled attempt if Nomad does not."""
        self._cancelled.setdefault(attempt.key, time.monotonic())

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            try:
                self.tick()
                if self._docker_away:
                    self._docker_away = False
                    log.info("Docker answers again")
            except (DockerUnavailableError, DockerRefusedError) as error:
                if not self._docker_away:
                    self._docker_away = True
                    log.error("Docker does not answer: %s", error)
            except Exception:
                # One unexpected answer must not end the time limits of all jobs.
                log.exception("watching failed unexpectedly")

    def tick(self) -> None:
        """Check all attempts once.

        Raises
        ------
        DockerUnavailableError
            Docker does not answer; that concerns all attempts.
        """
        states, nodeid = self._store.all(), self._identity.nodeid
        if not states or nodeid is None:
            return
        self._machine_full, self._disk_full = is_memory_full(), self._disks.is_full()
        by_key: dict[str, list[Listed]] = {}
        for one in self._engine.list_own(nodeid):
            by_key.setdefault(one.attempt_key, []).append(one)
        known = {state.id.key for state in states}
        for notes in (self._sampled, self._idle_since, self._termed, self._cancelled):
            for key in [k for k in list(notes) if k not in known]:
                del notes[key]
        self._disk_use.forget_all_but(known)
        for state in states:
            try:
                self._check(state, by_key.get(state.id.key, []))
            except DockerUnavailableError:
                raise
            except Exception:
                # A failure of one attempt must not end the time limits of all others.
                log.exception("watching an attempt failed", extra=state.id.log_fields)

    def _check(self, state: AttemptState, containers: list[Listed]) -> None:
        if self._is_cancelled_in_vain(state):
            self._finish_alone(state.id, "Nomad does not end this cancelled attempt; ending it")
            return
        running = [c for c in containers if c.state in ("running", "paused")]
        if running and state.phase == STAGED:
            self._idle_since.pop(state.id.key, None)
            self._watch(state, running[-1])
        elif not running:
            self._end_unclaimed(state, bool(containers))

    def _watch(self, state: AttemptState, container: Listed) -> None:
        attempt = state.id
        if state.started_boottime is None:
            inspected = self._engine.inspect(container.id)
            started = container_facts(inspected).started_at if inspected else None
            if inspected is None or started is None:
                return
            since = process_start(int(inspected["State"].get("Pid") or 0))
            if since is None:
                # Docker's processes are not visible here, so use the wall clock's time.
                since = min(boottime(), started - wall_offset())
            state = self._note(state, started_at=started, started_boottime=since)
            log.info("running", extra=attempt.log_fields)
        full = {
            "machine_full": state.machine_full or self._machine_full,
            "disk_full": state.disk_full or self._disk_full,
        }
        state = self._store.update(attempt, durable=False, **full) or state
        self._sample(state, container)
        self._limit(state, container)

    def _limit(self, state: AttemptState, container: Listed) -> None:
        """End a container that reached a limit: TERM, then KILL after the grace time."""
        if state.time_limit_at is None and self._has_no_time_left(state):
            # Durable before the signal: the reason must survive the agent.
            state = self._note(state, time_limit_at=time.time())
            log.info("time limit reached", extra=state.id.log_fields)
        if state.disk_over_at is None and self._uses_too_much_disk(state, container):
            state = self._note(state, disk_over_at=time.time())
            log.info("disk limit reached", extra=state.id.log_fields)
        if state.time_limit_at is None and state.disk_over_at is None:
            return
        if state.id.key not in self._termed:
            self._engine.signal(container.id, "TERM")
            self._termed[state.id.key] = time.monotonic()
        elif time.monotonic() - self._termed[state.id.key] >= self._grace:
            self._engine.signal(container.id, "KILL")

    def _has_no_time_left(self, state: AttemptState) -> bool:
        if state.grant is None or state.started_boottime is None:
            return False
        return boottime() - state.started_boottime >= state.grant.timelimit

    def _uses_too_much_disk(self, state: AttemptState, container: Listed) -> bool:
        if state.grant is None or not state.grant.diskmb:
            return False
        limit = state.grant.diskmb * 2**20
        used = self._disk_use.of(state.id.key, container.id, limit)
        if used is None:
            return False
        megabytes = -(-used // 2**20)
        if megabytes > (state.peak_disk_mb or 0):
            self._store.update(state.id, durable=False, peak_disk_mb=megabytes)
        return used > limit

    def _note(self, state: AttemptState, **changes: Any) -> AttemptState:
        """Store a change; only in memory if the disk fails. The limit counts in both cases."""
        try:
            return self._store.update(state.id, **changes) or state
        except OSError as error:
            log.error(
                "an attempt's state cannot be written: %s",
                error.strerror,
                extra=state.id.log_fields,
            )
            return self._store.update(state.id, durable=False, **changes) or state

    def _sample(self, state: AttemptState, container: Listed) -> None:
        attempt, now = state.id, time.monotonic()
        # Short jobs would end before a second sample. Long jobs need fewer samples.
        young = boottime() - (state.started_boottime or 0.0) < _YOUNG_S
        period = _PERIOD_S / 2 if young else _SAMPLE_PERIOD_S
        if attempt.key in self._sampled and now - self._sampled[attempt.key] < period:
            return
        self._sampled[attempt.key] = now
        usage = self._engine.usage(container.id)
        latest = self._store.get(attempt)
        if usage is None or latest is None:
            return
        self._store.update(
            attempt,
            durable=False,
            peak_memory_mb=max(usage.memory_mb or 0, latest.peak_memory_mb or 0) or None,
            peak_no_cache_mb=max(usage.no_cache_mb or 0, latest.peak_no_cache_mb or 0) or None,
            cpu_seconds=max(usage.cpu_seconds or 0.0, latest.cpu_seconds or 0.0) or None,
        )

    def _is_cancelled_in_vain(self, state: AttemptState) -> bool:
        since = self._cancelled.get(state.id.key)
        return (
            since is not None
            and time.monotonic() - since >= self._cancelled_after
            and not self._store.work_lock(state.id).locked()
        )

    def _end_unclaimed(self, state: AttemptState, has_container: bool) -> None:
        key = state.id.key
        if self._store.work_lock(state.id).locked() or self._is_in_slot(state):
            # Another thread stages it in or out, or runs it in a shared container.
            self._idle_since.pop(key, None)
            return
        now = time.monotonic()
        since = self._idle_since.setdefault(key, now)
        over = (
            has_container
            or state.started_at is not None
            or state.problem_outcome is not None
            or state.phase == DECIDED
        )
        after = self._unclaimed_ended_s if over else self._unclaimed_never_started_s
        if now - since >= after:
            self._finish_alone(state.id, "Nomad does not stage this attempt out; ending it")

    def _finish_alone(self, attempt: AttemptId, why: str) -> None:
        """Stage an attempt out, in a thread of its own, though Nomad did not ask."""
        if attempt.key in self._finishing:
            return
        log.warning(why, extra=attempt.log_fields)
        self._finishing.add(attempt.key)
        try:
            threading.Thread(
                target=self._finish_until_done, args=(attempt,), name="abandoned", daemon=True
            ).start()
        except RuntimeError:  # the machine can run no more threads now
            self._finishing.discard(attempt.key)
            raise

    def _finish_until_done(self, attempt: AttemptId) -> None:
        try:
            self._finish(attempt)
        except StoppedError:
            return
        finally:
            self._finishing.discard(attempt.key)


def is_memory_full(file: Path = Path("/proc/meminfo")) -> bool:
    """Return whether the machine itself has almost no free memory."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return False
    kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
    total = kilobytes.get("MemTotal:", 0)
    return kilobytes.get("MemAvailable:", total) < total * _ALMOST_NO_MEMORY
