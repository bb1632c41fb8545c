"""How a call to Nomad fails, whichever library made it."""

from __future__ import annotations

import re

_NOT_FOUND = 404
_GONE = re.compile(r"\b(job|node|alloc)\b.*\bnot found|^500: Specified job .* is stopped")


class NomadError(Exception):
    """A call to Nomad failed. The message is Nomad's own.

    It never says anything about a user's job, for what is sent is made from our template: Nomad is
    away, does not let us in, or has a defect of ours before it.
    """


class NomadNotFoundError(NomadError):
    """What was asked for does not exist in Nomad, or was stopped there."""


class NomadAwayError(NomadError):
    """Nomad cannot be reached, or did not answer in time: whether it did it is not known."""


def refusal(status: int, body: str) -> NomadError:
    """Return the error that an answer of Nomad's stands for."""
    text = f"{status}: {body.strip()[:500]}"
    # Most of Nomad's API says these with a 500.
    if status == _NOT_FOUND or _GONE.search(text):
        return NomadNotFoundError(text)
    return NomadError(text)
