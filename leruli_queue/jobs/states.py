"""The states of a job and the transitions between them: the one table.

docs/developers/states.md explains each transition and names the part that makes it; a test compares
the two. Every UPDATE of a state names the states that it may leave. So a late or repeated event
changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class JobState(StrEnum):
    """Where a job is; the value is what the API answers."""

    RECEIVED = "received"  # in the backlog
    SUBMITTED = "submitted"  # dispatched to Nomad; its command does not run yet
    RUNNING = "running"  # its command runs
    COMPLETED = "completed"  # exit code 0, and the results can be fetched
    FAILED = "failed"  # ended in another way; the reason says how
    CANCELLED = "cancelled"  # a person ended it


TRANSITIONS = MappingProxyType(
    {
        JobState.RECEIVED: frozenset(
            {
                JobState.SUBMITTED,  # the feeder claims it
                JobState.CANCELLED,  # task-cancel
                # A late receipt: it arrives after its attempt was abandoned and before the feeder
                # claims the next one. The results are in the bucket, so the job is over.
                JobState.COMPLETED,
                JobState.FAILED,
            }
        ),
        JobState.SUBMITTED: frozenset(
            {
                JobState.RUNNING,  # Nomad's event stream
                JobState.RECEIVED,  # the attempt was abandoned, and the job requeued
                JobState.COMPLETED,  # the receipt arrived before Nomad's event
                JobState.FAILED,  # as above, or the image is unknown, or no attempts are left
                JobState.CANCELLED,  # task-cancel before the start grant; later a receipt
            }
        ),
        JobState.RUNNING: frozenset(
            {
                JobState.RECEIVED,  # the platform failed the attempt
                JobState.COMPLETED,
                JobState.FAILED,
                JobState.CANCELLED,
            }
        ),
        JobState.COMPLETED: frozenset(),
        JobState.FAILED: frozenset(),
        JobState.CANCELLED: frozenset(),
    }
)
"""The states that may follow each state."""

FINAL = frozenset(state for state, onward in TRANSITIONS.items() if not onward)
"""The states that a job never leaves."""
