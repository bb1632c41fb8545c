"""Moving the files of the last job to leruli.history/JOBID before a folder gets another job.

Each step may be interrupted and repeated. leruli.bucket and leruli.job are moved last, because they
name the job whose files the folder holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from leruli.errors import RefusedError
from leruli.folder.job_folder import HISTORY, RESERVED, JobFolder
from leruli.folder.leftovers import Leftovers, leftovers_of
from leruli.folder.record import Place, Record, read_record, write_record


def set_aside(directory: str, job: str | None, *, with_results: bool = False) -> Leftovers:
    """Move the files of the folder's own job to the history, and leruli.bucket and leruli.job.

    `job` is the id of that job (None: its files were moved before). `with_results` leaves the
    results in the folder, as input of the next job. Returns the leftovers. Raises RefusedError,
    also if the folder has another job by now.
    """
    folder = JobFolder(directory)
    folder.check_job(job)
    record = read_record(directory)
    leftovers = leftovers_of(directory, record)
    if job is None:
        return leftovers
    history = Path(directory, HISTORY, job)
    with _map_os_errors(history):
        history.mkdir(parents=True, exist_ok=True)
        if record is not None and folder.bucket() in (None, record.bucket):
            _record_there(record, history)
        if not with_results:
            _move(directory, leftovers, history)
    folder.set_aside(job)
    return leftovers


def leave_original(directory: str, *, with_results: bool = False) -> Leftovers:
    """Remove from a copied folder everything that leads to the job of the original.

    Copied results are moved to the history. leruli.bucket and leruli.job are deleted. The record
    stays until the next submission, because it distinguishes results from input. Returns the
    leftovers. Raises RefusedError.
    """
    folder = JobFolder(directory)
    job, bucket = folder.job(), folder.bucket()
    leftovers = leftovers_of(directory, read_record(directory))
    if job is not None:
        history = Path(directory, HISTORY, job)
        with _map_os_errors(history):
            history.mkdir(parents=True, exist_ok=True)
            if not with_results:
                _move(directory, leftovers, history)
            _move_files(directory, RESERVED, history)
    folder.forget(job, bucket)
    return leftovers


def _record_there(record: Record, history: Path) -> None:
    """Write the record into the history folder, so that a copy of it is recognised."""
    write_record(str(history), replace(record, place=Place.of(str(history))))


def _move(directory: str, leftovers: Leftovers, history: Path) -> None:
    _move_files(directory, leftovers.stale, history)
    for name in sorted(leftovers.made, reverse=True):  # subfolders before their parents
        with contextlib.suppress(OSError):  # it holds other files
            Path(directory, name).rmdir()


def _move_files(directory: str, names: Iterable[str], history: Path) -> None:
    for name in names:
        target = history / name
        with contextlib.suppress(FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(directory, name).replace(target)


@contextlib.contextmanager
def _map_os_errors(history: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RefusedError(
            f"Cannot move the files of the last job to {history}: {error.strerror}."
        ) from error
