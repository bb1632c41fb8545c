"""What a node asks for its slots, and what it is granted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from leruli_queue.jobs.attempts import AttemptId, StartGrant

Resources = tuple[int, int, int, int | None]
"""Cores, memory, memory in Nomad, and /dev/shm."""


@dataclass(frozen=True)
class SlotRequest:
    """A node asks for the next attempts of a slot."""

    # The attempt that Nomad placed: it names the slot.
    first: AttemptId
    # Random. The same key asks again after a lost answer, and gets the same attempts.
    key: str
    most: int
    # How many more than `most` it takes while many jobs wait.
    ahead: int = 0
    # The job whose shared container the slot keeps.
    container: UUID | None = None


@dataclass(frozen=True)
class SlotGrant:
    """An attempt that a slot may run."""

    attempt: AttemptId
    grant: StartGrant
    user_id: int
    share_container: bool


@dataclass
class AskingSlot:
    """A slot whose node asks, and the grants that it gets in this call."""

    request: SlotRequest
    resources: Resources = (0, 0, 0, None)
    # User, code and version of the container that it keeps.
    kept: tuple[int, str, str] | None = None
    grants: list[SlotGrant] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many more attempts it asks for."""
        return self.request.most + self.request.ahead - len(self.grants)


def arrays(attempts: Iterable[AttemptId]) -> dict[str, list[Any]]:
    """Return the attempts as arguments of a statement."""
    listed = list(attempts)
    return {
        "job_ids": [attempt.job_id for attempt in listed],
        "numbers": [attempt.number for attempt in listed],
    }
