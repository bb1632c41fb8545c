"""Waits for the end of an attempt's container and decides how the attempt ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leruli_node.attempts.decide import decide
from leruli_node.attempts.store import AttemptStore
from leruli_node.clock import boottime, wall_offset
from leruli_node.container.docker_answers import container_facts
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
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
from leruli_node.outcomes import Outcome
from leruli_node.retry import Backoff, retrying

log = logging.getLogger(__name__)

# Retry time for Docker, in seconds: it may be restarting when a job ends.
DOCKER_RETRY_FOR_S = 600.0


@dataclass(frozen=True)
class Ended:
    """How the command of an attempt ended."""

    facts: ContainerFacts
    # Whether somebody sent TERM or KILL to it.
    was_signalled: bool = False


def ended_container(engine: DockerEngine, inspected: dict[str, Any]) -> Ended:
    """Return how a container ended, by Docker's description and events.

    Raises
    ------
    DockerUnavailableError
        Docker does not answer.
    """
    facts = container_facts(inspected)
    was_signalled = False
    if facts.exit_code != 0 and facts.started_at is not None:
        until = facts.finished_at or time.time()
        was_signalled = engine.was_signalled(inspected["Id"], facts.started_at, until)
    return Ended(facts, was_signalled)


class Settlement:
    """Finds out how attempts ended. Can be repeated after a crash."""

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
        end_in_shared: Callable[[AttemptId], Ended | None] = lambda _: None,
    ) -> None:
        """Build the settlement.

        `grace` is the time between TERM and KILL, in seconds. `end_in_shared` returns how an
        attempt ended in a shared container; None if it ran in none.
        """
        self._folders = folders
        self._store = store
        self._engine = engine
        self._containers = containers
        self._access = access
        self._grace = grace
        self._stop = stop
        self._docker_retry_for_s = docker_retry_for_s
        self._is_disk_full = is_disk_full
        self._end_in_shared = end_in_shared

    def settle(
        self, attempt: AttemptId, state: AttemptState, known: Ended | None = None
    ) -> AttemptState:
        """Wait for the end of the container, decide, and store the decision.

        `known` is how the command ended, if the caller knows that it did.

        Returns
        -------
        The new state.

        Raises
        ------
        StoppedError, OSError
            The agent is being stopped, or the disk failed.
        """
        ended, docker_lost = known, False
        if ended is None and state.problem_outcome is None and state.grant is not None:
            try:
                ended = self._end_in_shared(attempt) if state.slot is not None else None
                ended = ended or self._ended_container(attempt)
            except DockerUnavailableError:
                docker_lost = True
        container = ended.facts if ended is not None else None
        killed = ended is not None and ended.was_signalled
        state = self._store.get(attempt) or state
        if self._is_disk_full():
            # The job may have ended between two ticks of the watcher.
            state = self._store.update(attempt, durable=False, disk_full=True) or state
        job = self._folders.job(attempt.key)
        # A container that was removed may have run to its end.
        may_have_run = container is not None or (state.phase == STAGED and not docker_lost)
        is_readable = self._take(job) if may_have_run else True
        notes = read_notes(job / "control")
        if container is not None and state.in_shared:
            # The runner waited for the job itself: its exit code is certain.
            notes = ScriptNotes(started=True, exit_code=container.exit_code)
        if docker_lost:
            decision = Decision(Outcome.NODE_TROUBLE, message="Docker on the node does not answer")
        else:
            decision = decide(state, container, notes, boot_id(), killed, wall_offset())
        if not is_readable:
            decision = _as_unreadable(decision)
        ran = _has_run(state, container, notes)
        # Of a further attempt all is over within a second. Without this note it is decided again.
        sync = state.slot is None
        changed = self._store.update(
            attempt,
            sync=sync,
            phase=DECIDED,
            decision=decision,
            ran=ran,
            decided_boottime=boottime(),
        )
        return changed or state

    def _take(self, job: Path) -> bool:
        """Make the job's files readable.

        Return False if that failed for the whole retry time of Docker.
        """
        backoff = Backoff(self._stop, self._docker_retry_for_s, longest=10.0)
        while not self._access.take(job):
            if not backoff.pause():
                return False
        return True

    def _ended_container(self, attempt: AttemptId) -> Ended | None:
        """Return how the attempt's container ended, None if there is none.

        Raises
        ------
        DockerUnavailableError
            Docker does not answer within the retry time.
        """

        def report(error: Exception) -> None:
            log.warning("stage-out waits for Docker: %s", error, extra=attempt.log_fields)

        backoff = Backoff(self._stop, self._docker_retry_for_s, longest=10.0)
        away = (DockerUnavailableError, DockerRefusedError)
        try:
            return retrying(lambda: self._inspect(attempt), away, backoff, report)
        except DockerRefusedError as error:
            raise DockerUnavailableError(str(error)) from None

    def _inspect(self, attempt: AttemptId) -> Ended | None:
        found: list[dict[str, Any]] = []
        for container in self._containers.of(attempt):
            inspected = self._engine.inspect(container)
            if inspected is not None and inspected["State"].get("Running"):
                self._end_container(attempt, container)
                inspected = self._engine.inspect(container)
            if inspected is not None:
                found.append(inspected)
        if not found:
            return None
        # If Nomad started the container twice, the exit code of the latest shows that main.sh
        # refused it. Then `decide` takes the end of the first from main.sh's notes.
        latest = max(found, key=lambda one: str(one.get("Created", "")))
        return ended_container(self._engine, latest)

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
    """Return whether the job began. Without Docker's answer its output is uploaded all the same."""
    if container is not None and container.started_at is not None:
        return True
    return state.started_at is not None or notes.started


def _as_unreadable(decision: Decision) -> Decision:
    unread = "the node could not make all files of the job readable for itself"
    said = f"{decision.message}; {unread}" if decision.message else unread
    return replace(decision, message=said)
