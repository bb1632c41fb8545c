"""Checking jobs with the service before anything is uploaded or written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from leruli.errors import LeruliError, RefusedError, UnknownCallError

if TYPE_CHECKING:
    from leruli.service.queue_client import JobRequest, QueueClient

#: The option that refuses a job which no machine can hold now.
STRICT_OPTION = "--strict"

# The option that sets each field of the service's task-check.
_OPTIONS = {
    "memorymb": "--memory",
    "diskmb": "--disk",
    "shmmb": "--shm-size",
    "timelimit": "--time (in seconds)",
    "cores": "--cores",
    "priority": "--priority",
    "retry": "--retry",
    "retryon": "--retry-on",
    "retrymemorymb": "--memory (the most)",
    "retrytimelimit": "--time (the most, in seconds)",
}
_PARAMETER = re.compile(rf"\bParameter ({'|'.join(_OPTIONS)}):")


def find_refusals(
    service: QueueClient,
    requests: Sequence[JobRequest],
    warn: Callable[[str], None] = lambda _: None,
    *,
    strict: bool = False,
    option: str = STRICT_OPTION,
) -> list[str | None]:
    """Return for each job the sentences that refuse it, None for an accepted job.

    A job that no machine of the group can hold now gets a warning, one for all jobs with the same
    request. With `strict` it is refused. An older service has no such check: then only jobs with a
    size of /dev/shm or a retry rule are refused, because that service would ignore these.

    `option` is how the user asks for `strict`.
    """
    alike = [replace(one, bucket="", name="default") for one in requests]
    distinct = list(dict.fromkeys(alike))
    try:
        answers = service.check(distinct)
    except UnknownCallError:
        return [_refusal_of_older(one) for one in alike]
    refusals: dict[JobRequest, str | None] = {}
    for request, answer in zip(distinct, answers):
        if isinstance(answer, LeruliError):
            refusals[request] = _for_command_line(str(answer), option)
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
    service: QueueClient,
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


def _refusal_of_older(job: JobRequest) -> str | None:
    from leruli.service.queue_client import NO_RETRY, NO_SHM_SIZE

    if job.shmmb is not None:
        return NO_SHM_SIZE
    return NO_RETRY if job.rule.retry else None


def _for_command_line(text: str, option: str) -> str:
    """Return a refusal with the names of options, if the user wrote options."""
    if option != STRICT_OPTION:
        return text
    return _PARAMETER.sub(lambda match: f"{_OPTIONS[match[1]]}:", text)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
