"""Asking the queue about jobs before anything is uploaded or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from leruli.errors import LeruliError, RefusedError, UnknownCallError

if TYPE_CHECKING:
    from leruli.api import JobRequest, Service

#: What a user adds to have a job refused that has to wait for a larger machine.
STRICT_OPTION = "--strict"


def find_refusals(
    service: Service,
    requests: Sequence[JobRequest],
    warn: Callable[[str], None] = lambda _: None,
    *,
    strict: bool = False,
    option: str = STRICT_OPTION,
) -> list[str | None]:
    """Return for each job why it is refused, in sentences; None for a job that is not.

    A job that no machine of the group can hold now is only warned of, once for all that ask for the
    same, or refused if `strict`. A queue that is older than the client is not asked, and jobs that
    it would not give their size of /dev/shm are refused.

    `option` is how a user asks for `strict`.
    """
    from leruli.api import NO_SHM_SIZE

    alike = [replace(one, bucket="", name="default") for one in requests]
    distinct = list(dict.fromkeys(alike))
    try:
        answers = service.check(distinct)
    except UnknownCallError:
        return [None if one.shmmb is None else NO_SHM_SIZE for one in alike]
    refusals: dict[JobRequest, str | None] = {}
    for request, answer in zip(distinct, answers):
        if isinstance(answer, LeruliError):
            refusals[request] = str(answer)
        elif strict and answer:
            refusals[request] = (
                f"{_sentence(answer[0])} Without {option} the job is submitted and waits."
            )
        else:
            refusals[request] = None
            for warning in answer:
                warn(f"{_sentence(warning)} The job waits until a machine can.")
    return [refusals[one] for one in alike]


def check_requests(
    service: Service,
    requests: Iterable[JobRequest],
    warn: Callable[[str], None] = lambda _: None,
    *,
    strict: bool = False,
    option: str = STRICT_OPTION,
) -> None:
    """Raise RefusedError for the first job that is refused; see `find_refusals`."""
    for why in find_refusals(service, list(requests), warn, strict=strict, option=option):
        if why is not None:
            raise RefusedError(f"{why} Nothing was submitted.")


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
