"""How the agent ends: the service is told, jobs end, and those that still run are requeued."""

from __future__ import annotations

import logging
import time

from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.nomad import orphans
from leruli_node.nomad.client_process import remove_allocations
from leruli_node.service.service_api import ServiceError
from leruli_node.wiring import Parts

log = logging.getLogger(__name__)

# Seconds for which the service is tried to be told.
_LEAVE_RETRY_FOR_S = 8.0


class Shutdown:
    """Ends one agent, step by step."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        base = parts.base
        self._drain_seconds = base.settings.drain_seconds
        self._hurry = base.lifetime.hurry
        self._api = base.api
        self._engine = base.engine
        self._store = base.store

    def run(self) -> None:
        """Do all of it; a second signal shortens every wait."""
        parts, base = self._parts, self._parts.base
        deadline = time.monotonic() + self._drain_seconds
        log.info("shutting down; a second signal does it at once")
        if base.identity.nodeid is not None:
            if not self._leave(min(deadline, time.monotonic() + _LEAVE_RETRY_FOR_S)):
                self._end_running(base.identity.nodeid)
            self._wait_idle(deadline)
        kill_after_s = 1.0 if self._hurry.is_set() else 15.0
        parts.reporter.stop()
        parts.watcher.stop()
        base.lifetime.stop.set()
        parts.server.stop()
        if parts.nomad.was_started:
            parts.nomad.stop(kill_after_s)
        ended = orphans.end_children(set(), 2.0)
        if ended:
            log.info("ended processes that Nomad left", extra={"count": ended})
        self._requeue_running()
        if parts.nomad.was_started and not self._store.all():
            remove_allocations(base.folders.nomad_data)
        parts.receipts.wait_empty(1.0 if self._hurry.is_set() else 5.0)
        parts.receipts.stop()
        base.trash.stop(1.0 if self._hurry.is_set() else 5.0)
        self._api.close()
        log.info("ended")

    def _leave(self, deadline: float) -> bool:
        """Tell the service, so that the node is drained; whether it was told."""
        while not self._hurry.is_set():
            try:
                running = self._api.leave()
                log.info("left the service", extra={"running": running})
                return True
            except ServiceError as error:
                if time.monotonic() >= deadline or not self._store.all():
                    log.warning("could not tell the service: %s", error)
                    return False
                self._hurry.wait(0.5)
        return False

    def _end_running(self, nodeid: str) -> None:
        """Nobody else tells the jobs to end; so they get what a drain would send them."""
        now = time.time()
        for state in self._store.all():
            try:
                self._store.update(state.id, stopped_at=now)
            except OSError:
                self._store.update(state.id, durable=False, stopped_at=now)
        try:
            for container in self._engine.list_own(nodeid):
                if container.state == "running":
                    self._engine.signal(container.id, "TERM")
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("the containers could not be told: %s", error)

    def _wait_idle(self, deadline: float) -> None:
        told = 0
        while self._store.all() and not self._hurry.is_set():
            if time.monotonic() >= deadline:
                log.warning("not waiting any longer", extra={"active": len(self._store.all())})
                return
            if len(self._store.all()) != told:
                told = len(self._store.all())
                log.info("waiting for attempts to be staged out", extra={"active": told})
            self._hurry.wait(0.2)

    def _requeue_running(self) -> None:
        """End what still runs: its jobs go back to the queue.

        Attempts whose container has ended keep state and folder; the next agent uploads them.
        """
        nodeid = self._parts.base.identity.nodeid
        if nodeid is None:
            return
        try:
            containers = self._engine.list_own(nodeid)
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("containers are left: %s", error)
            return
        # Docker's word, not the watcher's note: a short job has ended before it is noted.
        running = {c.attempt_key for c in containers if c.state in ("running", "paused")}
        ran = {c.attempt_key for c in containers if c.state != "created"}
        stage_out = self._parts.stage_out
        for state in self._store.all():
            key = state.id.key
            noted = state.decision is not None or state.started_at is not None
            try:
                if key in running or (key not in ran and not noted):
                    stage_out.requeue(state.id, "the node was shut down before the job had ended")
                else:
                    stage_out.settle(state.id)
            except Exception:
                # A full disk, for instance. The others end in order all the same.
                log.exception("left to the next agent", extra={"attempt": key})
        self._parts.sweeper.sweep(nodeid)
