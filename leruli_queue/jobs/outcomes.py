"""What an attempt's receipt means for its job: the one table.

The node agent reports *how* the attempt ended (its outcome). This module decides what follows. A
failure of the job is final. After a failure of the platform the job is tried again, up to
``LERULI_QUEUE_MAX_ATTEMPTS`` times, and further while other jobs of the group fail too
(``platform_works``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from leruli_queue.jobs.states import JobState


class Outcome(StrEnum):
    """How an attempt ended, as the node agent reports it."""

    ENDED = "ended"  # the command ended by itself; the receipt has its exit code
    TIME_LIMIT = "time_limit"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"  # the job, or its input alone, exceeded its disk limit
    IMAGE_UNKNOWN = "image_unknown"  # no such object in the group's image bucket
    IMAGE_BROKEN = "image_broken"  # Docker could not load it
    INPUT_BROKEN = "input_broken"  # run.tgz is missing, damaged, or has a forbidden entry
    UPLOAD_FAILED = "upload_failed"  # the object store took no output for the agent's retry time
    STOPPED = "stopped"  # Nomad ended it: cancelled, or the node is drained
    NODE_TROUBLE = "node_trouble"  # Docker is down, or the container or agent state is lost


PLATFORM_FAILURES = frozenset({Outcome.UPLOAD_FAILED, Outcome.NODE_TROUBLE})
"""Outcomes that the platform caused. The job is requeued, unless one of these holds:

- its bucket was deleted,
- somebody wants it cancelled,
- it has lost as many attempts as it may.
"""

NOT_BEGUN = frozenset({Outcome.IMAGE_UNKNOWN, Outcome.IMAGE_BROKEN, Outcome.INPUT_BROKEN})
"""Outcomes that blame image or input. One node may be wrong, so a second node tries the job."""

OWN_ENDS = frozenset(
    {Outcome.ENDED, Outcome.TIME_LIMIT, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_DISK}
)
"""Outcomes of a command that ran. The job caused its own end, so its node works."""

# Node agents of all versions send these messages when a job's bucket was deleted
# (leruli_node/objects/job_bucket.py). A test of tests/unit/contract compares the two files.
BUCKET_MISSING = "the job's bucket is missing"  # before the job could run
BUCKET_WENT = "the job's bucket is not there any more"  # while its command ran
_PURGED = "its bucket is not there any more: it was purged or deleted"


@dataclass(frozen=True)
class Receipt:
    """The node agent's last word on an attempt."""

    outcome: Outcome
    exit_code: int | None = None
    message: str | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_mb: int | None = None
    uploaded_bytes: int | None = None
    uploaded_files: int | None = None
    # Without page cache.
    peak_no_cache_mb: int | None = None
    disk_mb: int | None = None
    image_s: float | None = None
    input_s: float | None = None
    output_s: float | None = None

    @property
    def blames_node(self) -> bool:
        """Whether the outcome counts against the node.

        Not after a command ran: the user chooses the signals and exit codes with which a container
        ends, and can also make an upload fail.
        """
        return self.outcome is Outcome.NODE_TROUBLE and self.exit_code is None

    @property
    def lost_its_bucket(self) -> bool:
        """Whether the bucket was deleted while the command ran. The job can never run again."""
        return self.outcome is Outcome.UPLOAD_FAILED and (self.message or "").endswith(BUCKET_WENT)


@dataclass(frozen=True)
class Limits:
    """The job's limits, for the sentence that says which one was exceeded."""

    memory_mb: int
    time_limit_s: int
    image: str


@dataclass(frozen=True)
class NextLimits:
    """What the next attempt of a job gets."""

    memory_mb: int
    time_limit_s: int


@dataclass(frozen=True)
class Verdict:
    """The state that follows from a receipt. ``state`` RECEIVED means: try again."""

    state: JobState
    reason: str | None
    counts_as_lost: bool = False
    # Wait for the retry delay although the attempt does not count as lost.
    delayed: bool = False
    # Set if the job's retry rule puts it back (leruli_queue.jobs.retry_rules).
    next_limits: NextLimits | None = None


def judge(
    receipt: Receipt, limits: Limits, *, cancel_requested: bool, stop_expected: bool
) -> Verdict:
    """Decide the job's next state from a receipt. A pure function.

    A command that ended with exit code 0 before the cancellation reached it keeps its result.

    Parameters
    ----------
    stop_expected
        Whether the service stopped the attempt or took its node out of service. An unexpected stop
        counts as a lost attempt: otherwise a command that ends itself with TERM would run for ever.
    """
    outcome = receipt.outcome
    if outcome is Outcome.ENDED and receipt.exit_code == 0:
        return Verdict(JobState.COMPLETED, receipt.message)
    if cancel_requested:
        return Verdict(JobState.CANCELLED, _cancellation(receipt))
    if outcome is Outcome.STOPPED:
        if stop_expected:
            why = "its node was taken out of service; it will run again"
            return Verdict(JobState.RECEIVED, why)
        why = "it was ended by a TERM signal from outside"
        return Verdict(JobState.RECEIVED, why, counts_as_lost=True)
    if receipt.lost_its_bucket:
        return Verdict(JobState.FAILED, f"{_PURGED} while the job ran, so there are no results")
    if outcome in PLATFORM_FAILURES:
        return Verdict(JobState.RECEIVED, _platform_failure(receipt), counts_as_lost=True)
    return Verdict(JobState.FAILED, _failure(receipt, limits))


_PLATFORM_SENTENCES = {
    Outcome.UPLOAD_FAILED: "the object storage did not take the output",
    Outcome.NODE_TROUBLE: "the node could not run it",
}


def _platform_failure(receipt: Receipt) -> str:
    return receipt.message or _PLATFORM_SENTENCES[receipt.outcome]


def _cancellation(receipt: Receipt) -> str:
    """Say whether a cancelled job ran, and whether it has output."""
    if receipt.outcome in NOT_BEGUN:
        return "cancelled before it ran"
    if receipt.uploaded_files is not None:
        return "cancelled while it ran; output up to then was uploaded"
    if receipt.outcome in PLATFORM_FAILURES:
        return f"cancelled; {_platform_failure(receipt)}, so output may be missing"
    return "cancelled; no output was uploaded"


def _failure(receipt: Receipt, limits: Limits) -> str:
    match receipt.outcome:
        case Outcome.ENDED:
            sentence = f"its command ended with exit code {receipt.exit_code}"
        case Outcome.TIME_LIMIT:
            sentence = (
                f"time limit of {limits.time_limit_s} s reached; output up to then was uploaded"
            )
        case Outcome.OUT_OF_MEMORY:
            sentence = f"killed: used more than {limits.memory_mb} MB"
        case Outcome.OUT_OF_DISK:
            return receipt.message or "used more disk than it may"
        case Outcome.IMAGE_UNKNOWN:
            return receipt.message or f"image {limits.image} is not published"
        case Outcome.IMAGE_BROKEN:
            sentence = f"image {limits.image} cannot be loaded; publish it again"
        case _ if receipt.message == BUCKET_MISSING:
            return f"{_PURGED} before the job could run"
        case _:
            sentence = "its input cannot be used"
    return f"{sentence}; {receipt.message}" if receipt.message else sentence
