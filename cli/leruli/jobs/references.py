"""Finding the job that a person names: by id, its digits, the job's name, or its folder."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from leruli.errors import NotFoundError, RefusedError, UnknownCallError
from leruli.folder.job_folder import JobFolder

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient

#: Digits of a short id: the last ones of a job id, as the first ones are a time.
SHORT_ID = 8

_FULL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# An error names at most so many jobs if a reference fits several.
_MOST_CANDIDATES = 10


def short_id(jobid: str) -> str:
    """Return the id that tables on a terminal show."""
    return jobid[-SHORT_ID:]


def resolve(service: QueueClient, text: str) -> str:
    """Return the id of the job that `text` names.

    `text` is a full id, a folder with a job, at least four of the first or last digits of an id, or
    the name of a job. A folder goes before a name. Raises NotFoundError when nothing fits,
    RefusedError when several jobs do.
    """
    if _FULL_ID.fullmatch(text):
        return text.lower()
    folder = folder_named(text)
    if folder is not None:
        found, bucket = folder.job(), folder.bucket()
        if found is None and bucket is not None:  # its submission was interrupted
            [found] = service.find_jobs([bucket])
        if found is not None:
            return found
    return _ask(service, text)


def folder_named(text: str) -> JobFolder | None:
    """Return the folder that `text` names if it has a job or a bucket. Raises RefusedError."""
    if not names_folder(text):
        return None
    folder = JobFolder(text)
    return None if folder.job() is None and folder.bucket() is None else folder


def job_of_folder(service: QueueClient, directory: str) -> str:
    """Return the id of a folder's job.

    The queue is asked for it when a submission was interrupted and the folder has a bucket only.
    Raises NotFoundError.
    """
    folder = JobFolder(directory)
    found = folder.job()
    if found is not None:
        return found
    bucket = folder.bucket()
    if bucket is None:
        raise NotFoundError(
            f"No job id was given and there is no leruli.job in {named_folder(directory)}. Run "
            "this in the folder of the job, or give the id."
        )
    [found] = service.find_jobs([bucket])
    if found is not None:
        return found
    raise NotFoundError(
        f"{'This folder' if directory == os.curdir else directory} has a bucket and no leruli.job, "
        "because its submission was interrupted, and the queue knows no job of yours with it. "
        "Submit again to finish it."
    )


def named_folder(directory: str) -> str:
    """Return how a sentence names a folder."""
    return "the current folder" if directory == os.curdir else directory


def _ask(service: QueueClient, text: str) -> str:
    try:
        jobs, has_more = service.resolve(text, _MOST_CANDIDATES)
    except UnknownCallError:
        return _as_full_id(service, text)
    if not jobs:
        raise NotFoundError(
            f"{text!r} is not a job of yours: neither its id, nor at least four of the first or "
            f"last digits of its id, nor its name.{_about_folder(text)} "
            "`leruli task-list` shows your jobs."
        )
    if len(jobs) == 1 and not has_more:
        return str(jobs[0]["jobid"])
    raise RefusedError(_ambiguous(text, jobs, has_more=has_more))


def _as_full_id(service: QueueClient, text: str) -> str:
    """Use `text` as an id of any form: older services may have other ids."""
    try:
        service.status(text)
    except NotFoundError as error:
        raise NotFoundError(
            f"{text!r} is not the full id of a job.{_about_folder(text)} This queue is older than "
            "the client and finds no job by a short id or by its name: give the full id, or the "
            "job's folder."
        ) from error
    return text


def _about_folder(text: str) -> str:
    return " The folder of that name has no job." if is_folder(text) else ""


def is_folder(text: str) -> bool:
    """Whether there is a folder of that name."""
    return os.path.isdir(text)  # noqa: PTH112  # pathlib raises for text that is no path


def names_folder(text: str) -> bool:
    """Whether `resolve` takes `text` for a folder."""
    return _FULL_ID.fullmatch(text) is None and is_folder(text)


def _ambiguous(text: str, jobs: list[dict[str, Any]], *, has_more: bool) -> str:
    from leruli.times import age

    lines = [
        f"    {job['jobid']}  {job.get('state', '')}, received {age(job.get('receivedat'))} ago, "
        f"{job.get('name', '')}"
        for job in jobs
    ]
    if has_more:
        lines.append("    and more")
    return (
        f"{text!r} fits several of your jobs. Nothing was done. Give the full id of the one that "
        "you mean:\n" + "\n".join(lines)
    )
