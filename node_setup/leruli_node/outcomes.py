"""The words of a receipt for how an attempt ended."""

from __future__ import annotations

from enum import Enum


class Outcome(str, Enum):
    """How an attempt ended, in the words of the receipt.

    leruli_queue/jobs/outcomes.py says what follows from each word; tests/unit/contract compares the
    two files. An unknown word in a state file comes from another version of the agent. It becomes a
    member of its own, so the receipt holds it: a newer service may know it.
    """

    ENDED = "ended"
    TIME_LIMIT = "time_limit"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    IMAGE_UNKNOWN = "image_unknown"
    IMAGE_BROKEN = "image_broken"
    INPUT_BROKEN = "input_broken"
    UPLOAD_FAILED = "upload_failed"
    STOPPED = "stopped"
    NODE_TROUBLE = "node_trouble"

    # Otherwise log lines would show "Outcome.ENDED" instead of "ended".
    __str__ = str.__str__

    @classmethod
    def _missing_(cls, value: object) -> Outcome | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = unknown._value_ = value
        return unknown


OWN_ENDS = frozenset(
    {Outcome.ENDED, Outcome.TIME_LIMIT, Outcome.OUT_OF_MEMORY, Outcome.OUT_OF_DISK}
)
"""The command ran, and how it ended is the job's own: the node works."""
