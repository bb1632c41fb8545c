"""What runs the command of a further attempt: the seam between a slot and its containers."""

from __future__ import annotations

from typing import Protocol

from leruli_node.attempts.settle import Ended
from leruli_node.model import AttemptId, AttemptState
from leruli_node.slots.record import SlotRecord


class GoneError(Exception):
    """The attempt is not this node's any more: it was dropped while its container was made."""


class AttemptContainer(Protocol):
    """Runs commands of further attempts.

    All calls raise DockerUnavailableError and DockerRefusedError. An attempt is staged in before
    its container is prepared. Each call can be repeated, also by the next agent after this one was
    killed.
    """

    def has_ready(self, slot: SlotRecord, state: AttemptState) -> bool:
        """Return whether the container of a granted attempt runs already. Asks nobody."""

    def prepare(self, slot: SlotRecord, attempt: AttemptId) -> None:
        """Have all ready but the start of the command; another attempt of the slot may still run.

        Raises
        ------
        GoneError
            The attempt was dropped meanwhile.
        """

    def start(self, slot: SlotRecord, attempt: AttemptId) -> None:
        """Start the command of a prepared attempt; nothing happens where it began before."""

    def has_begun(self, slot: SlotRecord, attempt: AttemptId) -> bool:
        """Return whether the command was started, by this agent or by one before it."""

    def wait(self, slot: SlotRecord, attempt: AttemptId, seconds: float) -> bool:
        """Wait for the command's end. Return whether it is over; one that is gone is over."""

    def signal(self, slot: SlotRecord, attempt: AttemptId, name: str) -> None:
        """Send TERM or KILL to the command; one that is over is no error."""

    def ended(self, slot: SlotRecord, attempt: AttemptId) -> Ended | None:
        """Return how the command ended. None: stage-out asks Docker, as for a first attempt."""

    def close(self, slot: SlotRecord) -> None:
        """The slot is over: remove what was kept from one attempt to the next."""
