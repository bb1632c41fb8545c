"""How an attempt ended: the end of its container, and the decision that follows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from leruli_node.attempts.outcome import decide
from leruli_node.attempts.store import AttemptStore
from leruli_node.clock import wall_offset
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
    container_facts,
)
from leruli_node.container.own_containers import OwnContainers
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.container.script_notes import ScriptNotes, read_notes
from leruli_node.errors import StoppedError
from leruli_node.folders import Folders
from leruli_node.model import (
    DECIDED,
    STAGED,
    AttemptId,
    AttemptState,
    ContainerFacts,
    Decision,
    boot_id,
)
from leruli_node.retry import Backoff, retrying

log = logging.getLogger(__name__)

# Docker may be restarting when a job has ended; after this its word is not waited for.
DOCKER_RETRY_FOR_S = 600.0


class Settlement:
    """Finds out how attempts ended; can be repeated after a crash."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        engine: DockerEngine,
        containers: OwnContainers,
        access: RundirAccess,
        grace: float,
        stop: threading.Event,
        docker_retry_for_s: float = DOCKER_RETRY_FOR_S,
        is_disk_full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`grace` is the time in seconds between TERM and KILL."""
        self._folders = folders
        self._store = store
        self._engine = engine
        self._containers = containers
        self._access = access
        self._grace = grace
        self._stop = stop
        self._docker_retry_for_s = docker_retry_for_s
        self._is_disk_full = is_disk_full

    def settle(self, attempt: AttemptId, state: AttemptState) -> AttemptState:
        """Wait for the end of the container, decide, and keep the decision; the new state.

        Raises StoppedError, OSError.
        """
        container: ContainerFacts | None = None
        killed = docker_lost = False
        if state.problem_outcome is None and state.grant is not None:
            try:
                container, killed = self._ended_container(attempt)
            except DockerUnavailableError:
                docker_lost = True
        state = self._store.get(attempt) or state
        if self._is_disk_full():
            # It may have ended between two ticks of the watcher.
            state = self._store.update(attempt, durable=False, disk_full=True) or state
        job = self._folders.job(attempt.key)
        # A container that is gone may have run to its end before.
        may_have_run = container is not None or (state.phase == STAGED and not docker_lost)
        is_readable = self._take(job) if may_have_run else True
        notes = read_notes(job / "control")
        if docker_lost:
            decision = Decision("node_trouble", message="Docker on the node does not answer")
        else:
            decision = decide(state, container, notes, boot_id(), killed, wall_offset())
        if not is_readable:
            decision = _as_unreadable(decision)
        ran = _has_run(state, container, notes)
        return self._store.update(attempt, phase=DECIDED, decision=decision, ran=ran) or state

    def _take(self, job: Path) -> bool:
        """Make the job's files readable; False when that failed for as long as Docker gets."""
        backoff = Backoff(self._stop, self._docker_retry_for_s, longest=10.0)
        while not self._access.take(job):
            if not backoff.pause():
                return False
        return True

    def _ended_container(self, attempt: AttemptId) -> tuple[ContainerFacts | None, bool]:
        """The attempt's container, not running any more, and whether somebody ended it.

        Raises DockerUnavailableError when Docker does not come back in time.
        """

        def report(error: Exception) -> None:
            log.warning("stage-out waits for Docker: %s", error, extra=attempt.log_fields)

        backoff = Backoff(self._stop, self._docker_retry_for_s, longest=10.0)
        away = (DockerUnavailableError, DockerRefusedError)
        try:
            return retrying(lambda: self._inspect(attempt), away, backoff, report)
        except DockerRefusedError as error:
            raise DockerUnavailableError(str(error)) from None

    def _inspect(self, attempt: AttemptId) -> tuple[ContainerFacts | None, bool]:
        found: list[dict[str, Any]] = []
        for container in self._containers.of(attempt):
            inspected = self._engine.inspect(container)
            if inspected is not None and inspected["State"].get("Running"):
                self._end_container(attempt, container)
                inspected = self._engine.inspect(container)
            if inspected is not None:
                found.append(inspected)
        if not found:
            return None, False
        # Should Nomad have started it twice, the latest tells: it was refused by the marker.
        latest = max(found, key=lambda one: str(one.get("Created", "")))
        facts = container_facts(latest)
        killed = False
        if facts.exit_code != 0 and facts.started_at is not None:
            until = facts.finished_at or time.time()
            killed = self._engine.was_signalled(latest["Id"], facts.started_at, until)
        return facts, killed

    def _end_container(self, attempt: AttemptId, container: str) -> None:
        state = self._store.get(attempt)
        if state is not None and state.stopped_at is None and state.time_limit_at is None:
            self._store.update(attempt, stopped_at=time.time())
        log.warning("the container still runs; ending it", extra=attempt.log_fields)
        self._engine.signal(container, "TERM")
        deadline = time.monotonic() + self._grace
        while True:
            inspected = self._engine.inspect(container)
            if inspected is None or not inspected["State"].get("Running"):
                return
            if time.monotonic() >= deadline:
                self._engine.signal(container, "KILL")
                deadline = time.monotonic() + 10.0
            if self._stop.wait(0.2):
                raise StoppedError


def _has_run(state: AttemptState, container: ContainerFacts | None, notes: ScriptNotes) -> bool:
    """Whether the job began. Without Docker's word its output is brought all the same."""
    if container is not None and container.started_at is not None:
        return True
    return state.started_at is not None or notes.started


def _as_unreadable(decision: Decision) -> Decision:
    unread = "the node could not make all files of the job readable for itself"
    said = f"{decision.message}; {unread}" if decision.message else unread
    return replace(decision, message=said)
