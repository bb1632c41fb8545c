"""The states of a job and the transitions between them: the one table.

docs/developers/states.md says the same in words and names for each transition who makes it (a test
compares the two). Every UPDATE of a state names the states that it may leave, so that a late or
repeated event changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class JobState(StrEnum):
    """Where a job is; the value is what the API answers."""

    RECEIVED = "received"  # in the backlog
    SUBMITTED = "submitted"  # dispatched to Nomad, waiting for a place
    RUNNING = "running"  # its command runs
    COMPLETED = "completed"  # exit code 0 and the results can be fetched
    FAILED = "failed"  # ended otherwise; the reason says how
    CANCELLED = "cancelled"  # a person ended it


TRANSITIONS = MappingProxyType(
    {
        JobState.RECEIVED: frozenset(
            {
                JobState.SUBMITTED,  # the feeder claims it
                JobState.CANCELLED,  # task-cancel
                # A receipt that was held back arrives after its attempt was given up and before
                # the next one was claimed: the results are there, so the job is over.
                JobState.COMPLETED,
                JobState.FAILED,
            }
        ),
        JobState.SUBMITTED: frozenset(
            {
                JobState.RUNNING,  # Nomad's event stream
                JobState.RECEIVED,  # the attempt was given up or given back
                JobState.COMPLETED,  # the receipt overtook the event
                JobState.FAILED,  # as above, or the image is unknown, or attempts are used up
                JobState.CANCELLED,  # task-cancel before leave to start; or the receipt after it
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
"""Which states a job may go to from each state."""

FINAL = frozenset(state for state, onward in TRANSITIONS.items() if not onward)
"""States that a job never leaves."""
