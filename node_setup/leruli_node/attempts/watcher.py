"""Watching containers while they run: their start, their time limit, their use of memory.

A time limit counts by a clock that setting the time does not move and that goes on while the
machine is suspended, as the service's limits do.
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
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
    Listed,
    container_facts,
)
from leruli_node.errors import StoppedError
from leruli_node.identity import NodeIdentity
from leruli_node.model import DECIDED, STAGED, AttemptId, AttemptState

log = logging.getLogger(__name__)

_PERIOD = 1.0
_SAMPLE_PERIOD = 5.0
_YOUNG = 20.0
# Nomad asks for stage-out within seconds. After this (seconds) it has lost the allocation, by a
# wiped data_dir for instance, and the agent ends the attempt by itself.
ABANDONED_ENDED = 300.0
ABANDONED_NEVER_STARTED = 1800.0
# Nomad ends the container of a cancelled job within its kill_timeout, 30 s. After this (seconds) it
# does not know of it any more.
CANCELLED = 60.0
# Of the machine's memory. The kernel ends somebody's process when nothing is left; a second before,
# there is more.
_NEXT_TO_NOTHING = 0.05


class Watcher:
    """One thread that looks at all own containers about every second."""

    def __init__(
        self,
        store: AttemptStore,
        engine: DockerEngine,
        identity: NodeIdentity,
        grace: float,
        finish: Callable[[AttemptId], None],
        disk_use: DiskUse,
        disks: Disks,
        abandoned_ended: float = ABANDONED_ENDED,
        abandoned_never_started: float = ABANDONED_NEVER_STARTED,
        cancelled: float = CANCELLED,
    ) -> None:
        self._store = store
        self._engine = engine
        self._identity = identity
        self._grace = grace
        self._finish = finish
        self._disk_use = disk_use
        self._disks = disks
        self._abandoned_ended = abandoned_ended
        self._abandoned_never_started = abandoned_never_started
        self._cancelled_after = cancelled
        self._stop = threading.Event()
        # What only this process needs to know; an agent that starts again begins anew.
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
        """End an attempt that somebody wants cancelled, if Nomad does not."""
        self._cancelled.setdefault(attempt.key, time.monotonic())

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD):
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
                # One odd answer must not end the time limits of all jobs.
                log.exception("watching failed unexpectedly")

    def tick(self) -> None:
        """One look at all attempts; raises DockerUnavailableError, which would meet all of them."""
        states, nodeid = self._store.all(), self._identity.nodeid
        if not states or nodeid is None:
            return
        self._machine_full, self._disk_full = is_memory_full(), self._disks.is_full()
        by_key: dict[str, list[Listed]] = {}
        for one in self._engine.list_own(nodeid):
            by_key.setdefault(one.attempt_key, []).append(one)
        known = {state.id.key for state in states}
        for memory in (self._sampled, self._idle_since, self._termed, self._cancelled):
            for key in [k for k in list(memory) if k not in known]:
                del memory[key]
        self._disk_use.forget_all_but(known)
        for state in states:
            try:
                self._check(state, by_key.get(state.id.key, []))
            except DockerUnavailableError:
                raise
            except Exception:
                # One attempt's trouble must not end the time limits of all others.
                log.exception("watching an attempt failed", extra=state.id.log_fields)

    def _check(self, state: AttemptState, containers: list[Listed]) -> None:
        if self._is_cancelled_in_vain(state):
            self._finish_alone(state.id, "nobody ends this cancelled attempt; ending it")
            return
        running = [c for c in containers if c.state in ("running", "paused")]
        if running and state.phase == STAGED:
            self._idle_since.pop(state.id.key, None)
            self._watch(state, running[-1])
        elif not running:
            self._abandoned(state, bool(containers))

    def _watch(self, state: AttemptState, container: Listed) -> None:
        attempt = state.id
        if state.started_boottime is None:
            inspected = self._engine.inspect(container.id)
            started = container_facts(inspected).started_at if inspected else None
            if inspected is None or started is None:
                return
            since = process_start(int(inspected["State"].get("Pid") or 0))
            if since is None:
                # Docker's processes are not seen from here: as old as the wall clock says.
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
        """End a container that reached a limit: TERM, and KILL when the grace is over."""
        if state.time_limit_at is None and self._has_no_time_left(state):
            # Durable before the signal: the reason must not be lost with the agent.
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
        """Keep a change, in memory where the disk takes no note: a limit holds all the same."""
        try:
            return self._store.update(state.id, **changes) or state
        except OSError as error:
            log.error("an attempt cannot be noted: %s", error.strerror, extra=state.id.log_fields)
            return self._store.update(state.id, durable=False, **changes) or state

    def _sample(self, state: AttemptState, container: Listed) -> None:
        attempt, now = state.id, time.monotonic()
        # Short jobs would end before a second sample; long ones need fewer.
        young = boottime() - (state.started_boottime or 0.0) < _YOUNG
        period = _PERIOD / 2 if young else _SAMPLE_PERIOD
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
            cpu_seconds=max(usage.cpu_seconds or 0.0, latest.cpu_seconds or 0.0) or None,
        )

    def _is_cancelled_in_vain(self, state: AttemptState) -> bool:
        since = self._cancelled.get(state.id.key)
        return (
            since is not None
            and time.monotonic() - since >= self._cancelled_after
            and not self._store.work_lock(state.id).locked()
        )

    def _abandoned(self, state: AttemptState, has_container: bool) -> None:
        key = state.id.key
        if self._store.work_lock(state.id).locked():
            # It is being staged in or out.
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
        after = self._abandoned_ended if over else self._abandoned_never_started
        if now - since >= after:
            self._finish_alone(state.id, "nobody stages this attempt out; ending it")

    def _finish_alone(self, attempt: AttemptId, why: str) -> None:
        """Stage an attempt out that nobody asks for, beside the watching."""
        if attempt.key in self._finishing:
            return
        log.warning(why, extra=attempt.log_fields)
        self._finishing.add(attempt.key)
        try:
            threading.Thread(
                target=self._finish_until_done, args=(attempt,), name="abandoned", daemon=True
            ).start()
        except RuntimeError:  # the machine has no room for another thread
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
    """Whether the machine, not a job, has next to no memory left."""
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return False
    kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
    total = kilobytes.get("MemTotal:", 0)
    return kilobytes.get("MemAvailable:", total) < total * _NEXT_TO_NOTHING
