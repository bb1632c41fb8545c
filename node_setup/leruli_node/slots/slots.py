"""The slots of this node. A slot is an allocation that runs attempts one after the other.

Nomad's task runs until the driver's question for stage-out is answered. So that question is
answered when the slot is over. Meanwhile the agent runs further attempts in it: slot.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from leruli_node.attempts.stage_socket import Answer
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.container.own_containers import OwnContainers
from leruli_node.errors import StoppedError
from leruli_node.model import AttemptId
from leruli_node.slots.made import container_like
from leruli_node.slots.parts import SlotParts
from leruli_node.slots.record import SlotRecord
from leruli_node.slots.slot import Slot

log = logging.getLogger(__name__)

# Seconds after the start of the agent in which Nomad asks for the slots that it knows.
_UNCLAIMED_S = 1800.0


class Slots:
    """All slots of this node; the task driver's questions come here."""

    def __init__(
        self,
        parts: SlotParts,
        engine: DockerEngine,
        containers: OwnContainers,
        ask_what_ends: Callable[[], set[AttemptId] | None],
    ) -> None:
        """Build the slots.

        `ask_what_ends` asks the service which attempts of this node are cancelled or abandoned. It
        returns None when there is no answer.
        """
        self._parts = parts
        self._engine = engine
        self._containers = containers
        self._ask_what_ends = ask_what_ends
        self._lock = threading.Lock()
        self._open: dict[str, Slot] = {}
        self._since = time.monotonic()

    def bring_out(self, attempt: AttemptId, alloc: str) -> Answer:
        """End the attempt that Nomad placed. Answer when its slot is over."""
        record = self._parts.records.get(attempt) or self._begin(attempt, alloc)
        if record is None or record.alloc != alloc:
            return self._parts.stage_out(attempt, alloc)
        with self._lock:
            slot = self._open.get(attempt.key)
            if slot is None:
                slot = self._open[attempt.key] = Slot(self._parts, attempt)
                slot.start()
        while not slot.over.wait(1.0):
            if self._parts.stop.is_set():
                raise StoppedError
        with self._lock:
            self._open.pop(attempt.key, None)
        return Answer(0)

    def end(self, attempt: AttemptId, alloc: str) -> Answer:
        """End a slot for Nomad.

        Nomad stops the allocation of a slot also when a single attempt of it is cancelled or
        abandoned. So the service is asked. Then only these attempts are ended. The command that
        runs comes to its own end, and no further one begins.
        """
        # Stored first: a slot that begins in this moment looks for it.
        self._parts.store.update(attempt, last=True)
        record = self._parts.records.change(attempt, stopped=True)
        if record is None or record.alloc != alloc:
            # The container that Nomad started still runs, and is ended by Nomad.
            return Answer(0)
        of_slot = {attempt, *(state.id for state in self._parts.attempts_of(attempt))}
        if not of_slot & (self._ask_what_ends() or set()):
            log.info("ending a slot with its command", extra=attempt.log_fields)
            self._parts.records.change(attempt, ends_running=True)
        with self._lock:
            slot = self._open.get(attempt.key)
        if slot is not None:
            slot.end()
        return Answer(0)

    def cancel(self, attempt: AttemptId) -> None:
        """End the command of a further attempt that the service wants cancelled."""
        slot = self._slot_of(attempt)
        if slot is not None:
            slot.cancel(attempt)

    def drop(self, attempt: AttemptId) -> None:
        """End an attempt that another node has now. Nothing more of it is uploaded."""
        slot = self._slot_of(attempt)
        if slot is not None:
            slot.drop(attempt)
        self._parts.stage_out.drop(attempt)

    def sweep(self) -> None:
        """Forget slots that Nomad does not know: it would have asked for them since the start."""
        if time.monotonic() - self._since < _UNCLAIMED_S:
            return
        states = self._parts.store.all()
        in_use = {state.slot for state in states} | {state.id.key for state in states}
        for first in self._parts.records.firsts():
            if first.key not in in_use and not self.is_open(first.key):
                log.warning("forgetting a slot that Nomad does not know", extra=first.log_fields)
                self._parts.records.remove(first)

    def is_open(self, first_key: str) -> bool:
        """Return whether the slot with this first attempt runs attempts in this process."""
        with self._lock:
            return first_key in self._open

    def _slot_of(self, attempt: AttemptId) -> Slot | None:
        """Return the open slot in which this attempt is a further one."""
        state = self._parts.store.get(attempt)
        if state is None or state.slot is None:
            return None
        with self._lock:
            return self._open.get(state.slot)

    def _begin(self, attempt: AttemptId, alloc: str) -> SlotRecord | None:
        """Make a slot of an attempt whose container has ended; None where it cannot be one."""
        state = self._parts.store.get(attempt)
        if state is None or state.alloc != alloc or state.grant is None or state.slot is not None:
            return None
        if state.last or not state.grant.goes_on or self._parts.draining.is_set():
            return None
        try:
            record = self._describe(attempt, alloc)
        except (DockerUnavailableError, DockerRefusedError, OSError, KeyError) as error:
            log.warning("no further attempt runs here: %s", error, extra=attempt.log_fields)
            return None
        state = self._parts.store.get(attempt)
        if record is not None and state is not None and state.last:
            return self._parts.records.change(attempt, stopped=True)
        return record

    def _describe(self, attempt: AttemptId, alloc: str) -> SlotRecord | None:
        for container in self._containers.of(attempt):
            inspected = self._engine.inspect(container)
            if inspected is not None and not inspected["State"].get("Running"):
                environment = self._engine.image_environment(inspected["Image"])
                like = container_like(inspected, environment)
                record = SlotRecord(attempt.job, attempt.attempt, alloc, like)
                self._parts.records.save(record)
                return record
        return None
