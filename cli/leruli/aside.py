"""Making room in a folder for another job, so that nothing of the last one is lost or mistaken.

What the last job left goes to leruli.history, into a folder of the job's name. Each step can be
done again after it broke off, and what tells the folder's standing goes last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from leruli.errors import RefusedError
from leruli.jobfolder import HISTORY, RESERVED, JobFolder
from leruli.leftovers import Leftovers, leftovers_of
from leruli.record import Place, Record, read_record, write_record


def set_aside(directory: str, job: str | None, *, with_results: bool = False) -> Leftovers:
    """Move what the folder's own job left to its history, with its bucket and its id.

    `job` is the id (None: room was made before). `with_results` leaves results in the folder, to be
    sent. Returns what there was. Raises RefusedError, also when the folder has another job by now.
    """
    folder = JobFolder(directory)
    folder.check_job(job)
    record = read_record(directory)
    leftovers = leftovers_of(directory, record)
    if job is None:
        return leftovers
    history = Path(directory, HISTORY, job)
    with _explained(history):
        history.mkdir(parents=True, exist_ok=True)
        if record is not None and folder.bucket() in (None, record.bucket):
            _record_there(record, history)
        if not with_results:
            _move(directory, leftovers, history)
    folder.set_aside(job)
    return leftovers


def leave_original(directory: str, *, with_results: bool = False) -> Leftovers:
    """Take from a copied folder all that leads to the job of the original.

    The results that were copied go to the history; the bucket's name and the job's id are deleted.
    The record stays until the next one: it tells results from input. Returns what there was. Raises
    RefusedError.
    """
    folder = JobFolder(directory)
    job, bucket = folder.job(), folder.bucket()
    leftovers = leftovers_of(directory, read_record(directory))
    if job is not None:
        history = Path(directory, HISTORY, job)
        with _explained(history):
            history.mkdir(parents=True, exist_ok=True)
            if not with_results:
                _move(directory, leftovers, history)
            _move_files(directory, RESERVED, history)
    folder.forget(job, bucket)
    return leftovers


def _record_there(record: Record, history: Path) -> None:
    """Let a copy of the history be told as a copied folder is."""
    write_record(str(history), replace(record, place=Place.of(str(history))))


def _move(directory: str, leftovers: Leftovers, history: Path) -> None:
    _move_files(directory, leftovers.stale, history)
    for name in sorted(leftovers.made, reverse=True):  # what is in a folder comes first
        with contextlib.suppress(OSError):  # it holds something else
            Path(directory, name).rmdir()


def _move_files(directory: str, names: Iterable[str], history: Path) -> None:
    for name in names:
        target = history / name
        with contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(directory, name).replace(target)


@contextlib.contextmanager
def _explained(history: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusedError(
            f"Cannot move what the last job left to {history}: {error.strerror}."
        ) from error
