"""The parts of the agent that a slot uses, and what it does to one attempt with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.settle import Ended
from leruli_node.attempts.stage_in import SHUTTING_DOWN, StageIn
from leruli_node.attempts.stage_out import StageOut
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.model import STAGED, AttemptId, AttemptState
from leruli_node.outcomes import Outcome
from leruli_node.slots.container import AttemptContainer, GoneError
from leruli_node.slots.granting import Granting
from leruli_node.slots.record import SlotRecords
from leruli_node.slots.running import Running


@dataclass(frozen=True)
class SlotParts:
    """The parts that all slots share."""

    records: SlotRecords
    store: AttemptStore
    stage_in: StageIn
    stage_out: StageOut
    receipts: Receipts
    granting: Granting
    # All kinds of containers, and which of them runs an attempt.
    containers: Sequence[AttemptContainer]
    container_of: Callable[[AttemptState], AttemptContainer]
    # Says that the commands of attempts run; waits for no answer.
    tell_running: Callable[[AttemptId], None]
    # Has the node report to the service; waits for nothing.
    report_soon: Callable[[], None]
    # Seconds between TERM and KILL.
    grace: float
    stop: threading.Event
    draining: threading.Event

    def prepare(self, first: AttemptId, attempt: AttemptId) -> bool:
        """Stage an attempt in and prepare its container. Return whether its command may start.

        Raises
        ------
        StoppedError, DockerUnavailableError, DockerRefusedError
            As stage-in, and the container.
        GoneError
            The attempt, or its slot, is gone; or the node is shutting down.
        """
        record = self.records.get(first)
        if record is None:
            raise GoneError
        code = self.stage_in(attempt, record.alloc).code
        if code == SHUTTING_DOWN:
            raise GoneError
        if code != 0:
            return False
        state = self.store.get(attempt)
        if state is None:
            raise GoneError
        self.container_of(state).prepare(record, attempt)
        return True

    def start(self, first: AttemptId, attempt: AttemptId, is_new: bool) -> Running:
        """Start the command of a prepared attempt; one that began before is only waited for.

        Raises
        ------
        DockerUnavailableError, DockerRefusedError
            As the container.
        GoneError
            The attempt, or its slot, is gone.
        """
        record, state = self.records.get(first), self.store.get(attempt)
        if record is None or state is None:
            raise GoneError
        container = self.container_of(state)
        if is_new:
            container.start(record, attempt)
        return Running(container, record, attempt, self.grace)

    def ended(self, first: AttemptId, attempt: AttemptId) -> Ended | None:
        """Return how a further attempt's command ended; None where stage-out has to ask Docker."""
        record, state = self.records.get(first), self.store.get(attempt)
        if record is None or state is None or state.phase != STAGED or state.in_shared:
            return None
        try:
            return self.container_of(state).ended(record, attempt)
        except (DockerUnavailableError, DockerRefusedError):
            return None

    def close(self, first: AttemptId) -> None:
        """Remove what containers kept from one attempt of a slot to the next."""
        record = self.records.get(first)
        if record is not None:
            for container in self.containers:
                container.close(record)

    def give_back(self, attempt: AttemptId) -> bool:
        """Return an attempt to the service that has not begun. Return False if it stays here."""
        state = self.store.get(attempt)
        if state is None:
            return True
        if state.decision is not None or state.problem_outcome not in (None, Outcome.STOPPED):
            # It has a result, and so a receipt.
            return False
        # Stored first: the service may give the job to another node before this agent hears of it.
        self.store.update(attempt, sync=False, is_returning=True)
        if not self.granting.give_back(attempt):
            return False
        self.stage_out.drop(attempt)
        return True

    def attempts_of(self, first: AttemptId) -> list[AttemptState]:
        """Return the further attempts of a slot that are not over here."""
        return [state for state in self.store.all() if state.slot == first.key]
