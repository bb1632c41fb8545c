"""The exit code by which `leruli run` tells how a job ended, as if it were the program itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leruli.errors import ServiceError
from leruli.jobs.exit_codes import exit_code_of

if TYPE_CHECKING:
    from leruli.service.queue_client import JobState, QueueClient

#: The time limit ended the job. `timeout` has the same code.
TIME_LIMIT = 124
#: The queue failed, or this client: there is no exit code of the job.
QUEUE_FAILED = 125
#: The job used more memory than its limit: 128 + SIGKILL, as for a process that the kernel kills.
OUT_OF_MEMORY = 137
#: Somebody cancelled the job: 128 + SIGTERM.
CANCELLED = 143

_BY_OUTCOME = {"time_limit": TIME_LIMIT, "out_of_memory": OUT_OF_MEMORY}
_ENDED = "ended"
_MOST = 255


@dataclass(frozen=True)
class Ending:
    """How a job ended."""

    state: JobState
    #: The outcome of its last attempt, in a word of the node's receipt; None if it is unknown.
    outcome: str | None
    #: The exit code that stands for it.
    code: int


def ending_of(service: QueueClient, jobid: str, state: JobState) -> Ending:
    """Return how a job ended, whose state is `state`."""
    last = {} if state.status == "completed" else _last_attempt(service, jobid)
    outcome = last.get("outcome")
    return Ending(state, outcome, _code(state, outcome, last.get("exitcode")))


def _last_attempt(service: QueueClient, jobid: str) -> dict[str, Any]:
    """Return the last attempt of a job, empty without one or if the queue cannot tell."""
    try:
        attempts = service.detail(jobid).get("attempts")
    except ServiceError:  # also a queue that is older than this call
        return {}
    return attempts[-1] if attempts and isinstance(attempts, list) else {}


def _code(state: JobState, outcome: str | None, exit_code: object) -> int:
    if state.status == "completed":
        return 0
    if state.status == "cancelled":
        return CANCELLED
    if outcome in _BY_OUTCOME:
        return _BY_OUTCOME[outcome]
    if outcome is None:
        exit_code = exit_code_of(state.reason)
    elif outcome != _ENDED:
        return QUEUE_FAILED
    return exit_code if isinstance(exit_code, int) and 0 < exit_code <= _MOST else QUEUE_FAILED
