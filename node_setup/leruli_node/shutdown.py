"""Ends the agent: tells the service, lets jobs end, and requeues those that still run."""

from __future__ import annotations

import logging
import time

from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.nomad import orphans
from leruli_node.nomad.data_folder import remove_allocations
from leruli_node.service.service_api import ServiceError
from leruli_node.wiring import Parts

log = logging.getLogger(__name__)

# Retry time of node-leave in seconds.
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
        """Run all steps. A second signal shortens every wait."""
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
        """Call node-leave, so that the node is drained. Return whether the service answered."""
        while not self._hurry.is_set():
            try:
                running = self._api.leave()
                log.info("left the service", extra={"running": running})
                return True
            except ServiceError as error:
                if time.monotonic() >= deadline or not self._store.all():
                    log.warning("the service does not know of the shutdown: %s", error)
                    return False
                self._hurry.wait(0.5)
        return False

    def _end_running(self, nodeid: str) -> None:
        """Send TERM to the running jobs, as a drain would.

        The service does not know of the shutdown, so nobody else does it.
        """
        now = time.time()
        for state in self._store.all():
            try:
                self._store.update(state.id, stopped_at=now)
            except OSError:
                self._store.update(state.id, durable=False, stopped_at=now)
        try:
            self._parts.shared.signal_running("TERM")
            for container in self._engine.list_own(nodeid):
                if container.state == "running":
                    self._engine.signal(container.id, "TERM")
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("the containers could not be signalled: %s", error)

    def _wait_idle(self, deadline: float) -> None:
        last_count = 0
        while self._store.all() and not self._hurry.is_set():
            if time.monotonic() >= deadline:
                log.warning("not waiting any longer", extra={"active": len(self._store.all())})
                return
            if len(self._store.all()) != last_count:
                last_count = len(self._store.all())
                log.info("waiting for attempts to be staged out", extra={"active": last_count})
            self._hurry.wait(0.2)

    def _requeue_running(self) -> None:
        """End the attempts that still run; their jobs are requeued.

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
        # Ask Docker instead of the watcher's state: a short job ends before the watcher sees it.
        running = {c.attempt_key for c in containers if c.state in ("running", "paused")}
        running |= self._parts.shared.running()
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
                # For instance a full disk. The others end normally all the same.
                log.exception("left to the next agent", extra={"attempt": key})
        self._parts.shared.end_all()
        self._parts.sweeper.sweep(nodeid)
