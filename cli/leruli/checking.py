"""Asking the queue about jobs before anything is uploaded or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from leruli.errors import LeruliError, RefusedError, UnknownCallError

if TYPE_CHECKING:
    from leruli.api import JobRequest, Service


def check_requests(
    service: Service,
    requests: Iterable[JobRequest],
    warn: Callable[[str], None] = lambda _: None,
    *,
    strict: bool = False,
) -> None:
    """Raise RefusedError for a job that the queue would not take; `warn` of one that must wait.

    A job that no machine of the group can hold now is only warned of, once for all that ask for the
    same, or refused if `strict`. A queue that is older than the client is not asked, and refused
    jobs that it would not give their size of /dev/shm.
    """
    from leruli.api import NO_SHM_SIZE

    distinct = list(dict.fromkeys(replace(one, bucket="", name="default") for one in requests))
    try:
        answers = service.check(distinct)
    except UnknownCallError:
        if any(one.shmmb is not None for one in distinct):
            raise RefusedError(f"{NO_SHM_SIZE} Nothing was submitted.") from None
        return
    for answer in answers:
        if isinstance(answer, LeruliError):
            raise RefusedError(f"{answer} Nothing was submitted.")
        for warning in answer:
            if strict:
                raise RefusedError(
                    f"{_sentence(warning)} Nothing was submitted. Without --strict the job is "
                    "submitted and waits."
                )
            warn(f"Warning: {_sentence(warning)} The job waits until a machine can.")


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
