"""Submitting many folders at once.

Threads pack and upload; as soon as 50 folders are up they are submitted in one call, while the
uploads go on. What fails for one folder is noted for that folder. What would fail for all of them
(the storage or the service is away, the secret is refused) ends the batch.
"""

from __future__ import annotations

import glob
import itertools
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from leruli.errors import (
    AccessRefusedError,
    AlreadySubmittedError,
    LeruliError,
    NotFoundError,
    ServiceError,
    StorageError,
)
from leruli.interruption import StoppedError, StopSwitch
from leruli.jobfolder import JobFolder
from leruli.submitting import JobSpec, prepare, stage

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.storage import Store

#: Threads that pack and upload. More would only wait for Python's lock.
STAGERS = 8

# Jobs in one bulk call.
_POST_SIZE = 50

# Folders handed to the threads ahead of time, so that 100,000 folders are not 100,000 futures.
_AHEAD = 4 * STAGERS

# Failures of the storage in a row after which the rest is not tried.
_STORAGE_FAILURES = STAGERS


@dataclass(frozen=True)
class Case:
    """A folder and what to run in it."""

    directory: str
    spec: JobSpec


@dataclass
class BatchReport:
    """What became of each folder."""

    submitted: dict[str, str] = field(default_factory=dict)  #: folder: job id
    skipped: list[str] = field(default_factory=list)  #: submitted before
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence
    seconds: float = 0.0


def find_folders(pattern: str) -> list[str]:
    """Return the folders of --batch: a file with one a line ("-": standard input), or a glob.

    In a file, lines that begin with # are remarks.
    """
    if pattern == "-":
        return _listed(sys.stdin)
    if Path(pattern).is_file():
        try:
            with Path(pattern).open(encoding="utf-8", errors="surrogateescape") as file:
                return _listed(file)
        except OSError as error:
            raise NotFoundError(f"Cannot read {pattern}: {error.strerror}.") from error
    # Not Path.glob, which takes no absolute pattern.
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    return _unique(name for name in found if Path(name).is_dir())


def _listed(lines: Iterable[str]) -> list[str]:
    stripped = (line.strip() for line in lines)
    return _unique(line for line in stripped if not line.startswith("#"))


def _unique(directories: Iterable[str]) -> list[str]:
    """Without blanks, and each folder once, however it is written."""
    return list({os.path.realpath(name): name for name in directories if name}.values())


def submit_batch(
    store: Store,
    service: Service,
    cases: Sequence[Case],
    advance: Callable[[int], None] = lambda _: None,
) -> BatchReport:
    """Submit all cases; `advance` is told how many more folders are dealt with."""
    started = time.monotonic()
    report = BatchReport()
    staged = _stage_all(store, cases)
    group: list[_Staged] = []
    storage_failures = 0
    fatal: LeruliError | None = None
    for case, outcome in staged:
        if isinstance(outcome, _Staged):
            storage_failures = 0
            group.append(outcome)
            if len(group) == _POST_SIZE:
                fatal = _post(service, group, report)
                advance(len(group))
                group = []
        elif isinstance(outcome, AlreadySubmittedError):
            report.skipped.append(case.directory)
            advance(1)
        else:
            report.failed[case.directory] = str(outcome)
            advance(1)
            if isinstance(outcome, StorageError):
                storage_failures += 1
                if storage_failures == _STORAGE_FAILURES:
                    fatal = outcome
        if fatal is not None:
            break
    staged.close()
    if group and not isinstance(fatal, (ServiceError, AccessRefusedError)):
        fatal = _post(service, group, report) or fatal
    if fatal is not None:
        _note_untried(cases, report, fatal)
    report.seconds = time.monotonic() - started
    return report


@dataclass(frozen=True)
class _Staged:
    """A folder whose files are in its bucket."""

    case: Case
    folder: JobFolder
    bucket: str


def _stage_all(
    store: Store, cases: Iterable[Case]
) -> Generator[tuple[Case, _Staged | LeruliError], None, None]:
    """Pack and upload all cases, several at once; yields each when it is done or has failed.

    Closing the generator (an error or Ctrl-C in its user does) calls off what is under way.
    """
    done: SimpleQueue[tuple[Case, _Staged | LeruliError]] = SimpleQueue()
    switch = StopSwitch(lambda _: None)

    def work(case: Case) -> None:
        try:
            case.spec.check()
            prepared = prepare(case.directory, case.spec.command)
            bucket = stage(store, prepared, switch.advance)
            done.put((case, _Staged(case, prepared.folder, bucket)))
        except LeruliError as error:
            done.put((case, error))
        except StoppedError:
            pass  # nobody waits for it any more
        except Exception as error:  # a defect here must not leave the batch waiting for ever
            done.put((case, LeruliError(f"Unexpected: {type(error).__name__}: {error}.")))

    pool = ThreadPoolExecutor(STAGERS, "stage")
    waiting = iter(cases)
    under_way = 0
    try:
        while True:
            for case in itertools.islice(waiting, _AHEAD - under_way):
                pool.submit(work, case)
                under_way += 1
            if under_way == 0:
                return
            yield done.get()
            under_way -= 1
    finally:
        switch.switch_off()
        pool.shutdown(cancel_futures=True)


def _post(service: Service, group: list[_Staged], report: BatchReport) -> LeruliError | None:
    """Submit one group and note the outcome; returns what would meet every further job too."""
    try:
        answers = service.submit_bulk([one.case.spec.request(one.bucket) for one in group])
    except LeruliError as error:
        for one in group:
            report.failed[one.case.directory] = str(error)
        return error if isinstance(error, (ServiceError, AccessRefusedError)) else None
    fatal = None
    for one, answer in zip(group, answers):
        directory = one.case.directory
        try:
            if isinstance(answer, LeruliError):
                raise answer
            one.folder.record_job(answer)
            report.submitted[directory] = answer
        except LeruliError as error:
            report.failed[directory] = str(error)
            if isinstance(error, AccessRefusedError):
                fatal = error
    return fatal


def _note_untried(cases: Sequence[Case], report: BatchReport, fatal: LeruliError) -> None:
    skipped = set(report.skipped)
    for case in cases:
        name = case.directory
        if name not in skipped and name not in report.submitted and name not in report.failed:
            report.failed[name] = f"Not tried, as others failed: {fatal}"
