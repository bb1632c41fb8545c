"""Submitting folders, from Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from leruli import settings
from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.folder.provenance import provenance_of, provenances_of
from leruli.images.published import ImageTokens, check_published
from leruli.jobs.check import check_requests, find_refusals
from leruli.jobs.resubmit import (
    Selection,
    archive_previous,
    select_unsound,
)
from leruli.jobs.submit import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    Command,
    JobSpec,
    check_image,
    prepare,
    submit,
)
from leruli.jobs.submit_many import STAGERS, Case, submit_batch
from leruli.python_api.arguments import (
    STRICT,
    Folder,
    as_folder,
    as_spec,
    warn,
)
from leruli.service.queue_client import QueueClient
from leruli.storage.store import Store

if TYPE_CHECKING:
    from leruli.jobs.submit_many import BatchReport

# The place of each value that a too short argument of `task_submit_many` lacks.
_ABSENT: Any = object()


def task_submit(
    directory: Folder,
    code: str,
    version: str,
    command: Command,
    cores: int = DEFAULT_CORES,
    memorymb: int = DEFAULT_MEMORY_MB,
    timeseconds: int = DEFAULT_TIME_S,
    diskmb: int | None = None,
    *,
    shmmb: int | None = None,
    priority: int = 0,
    share_container: bool = False,
    retry: int = 0,
    retry_on: str | Iterable[str] | None = None,
    most_memorymb: int | None = None,
    most_timeseconds: int | None = None,
    name: str | None = None,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> str:
    """Submit a folder as a job.

    Writes leruli.bucket, leruli.job and leruli.folder into the folder. A second call after an
    interruption continues with the same bucket, so the folder gets only one job.

    Parameters
    ----------
    directory
        The folder with the input files.
    code, version
        The image to run in; `task_list_codes` lists the images of the group.
    command
        One line of bash, or words that are joined with spaces. Words are not quoted.
    cores
        CPU cores.
    memorymb
        Memory limit in MB.
    timeseconds
        Time limit in seconds. (The command line takes minutes.)
    diskmb
        Disk limit in MB, including input and output. None: the service's default.
    shmmb
        Size of /dev/shm in MB. None: 64. Its content counts as memory.
    priority
        The order among the caller's own jobs, from -1000 to 1000. The highest goes first.
    share_container
        Whether the job may run in the container of the caller's job before it. This is for many
        short jobs: docs/users/short-jobs.md.
    retry
        How often the job is tried again after a failure, 0 to 100.
    retry_on
        After which ends: "out-of-memory", "time-limit", "exit=CODE", "exit=any". None: what more
        memory or time can mend.
    most_memorymb, most_timeseconds
        Up to which the memory and the time are doubled at a retry. None: they stay.
    name
        The name of the job. None: the name of its folder.
    new
        Submit a copied folder as its own job. Submit a folder again that was edited after its job.
    with_results
        Send results of earlier jobs as input too, for instance for a restart.
    strict
        Refuse a job that no machine of the group can hold now. Without `strict` there is a
        LeruliWarning, and the job waits.

    Returns
    -------
    str
        The job id.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    AlreadySubmittedError, CopiedFolderError, EditedFolderError
        The folder has a job: its own, that of another folder, or one with other input.
    NotFoundError
        There is no such folder or no such image.
    RefusedError
        The queue would refuse the job. Nothing was uploaded or written.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    settings.require(settings.ALL)
    directory = as_folder("directory", directory)
    spec = as_spec(
        code=code,
        version=version,
        command=command,
        cores=cores,
        memorymb=memorymb,
        timeseconds=timeseconds,
        diskmb=diskmb,
        shmmb=shmmb,
        priority=priority,
        share_container=share_container,
        retry=retry,
        retry_on=retry_on,
        most_memorymb=most_memorymb,
        most_timeseconds=most_timeseconds,
        name=name,
    )
    spec.check()
    prepared = None if new else prepare(directory, spec, with_results=with_results)
    store = Store(settings.storage_settings())
    with QueueClient(settings.service_settings()) as service:
        check_image(store, service, spec)
        check_requests(service, [spec.request("", "default")], warn, strict=strict, option=STRICT)
        if prepared is None:
            selection = _make_new(service, [directory], alone=True, with_results=with_results)
            for why in selection.failed.values():
                raise RefusedError(why)
            prepared = prepare(directory, spec, with_results=with_results)
        jobid, _ = submit(store, service, prepared)
    warn_of_edits(directory)
    return jobid


def task_submit_many(
    directories: Iterable[Folder],
    codes: Iterable[str],
    versions: Iterable[str],
    commands: Iterable[Command],
    cores: Iterable[int],
    memorymb: Iterable[int],
    timeseconds: Iterable[int],
    *,
    diskmb: int | None = None,
    shmmb: int | None = None,
    priority: int = 0,
    share_container: bool = False,
    retry: int = 0,
    retry_on: str | Iterable[str] | None = None,
    most_memorymb: int | None = None,
    most_timeseconds: int | None = None,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> dict[str, str]:
    """Submit many folders.

    Parameters
    ----------
    directories, codes, versions, commands, cores, memorymb, timeseconds
        The same as for `task_submit`, with one value per folder.
    diskmb, shmmb, priority, share_container, new, with_results, strict
        The same as for `task_submit`, with one value for all folders.
    retry, retry_on, most_memorymb, most_timeseconds
        The same as for `task_submit`, with one value for all folders.

    Returns
    -------
    dict
        Each folder that was not submitted, and why, in a sentence. It includes folders that were
        submitted before, copies of other folders, and edited folders. Empty if all were submitted.

    Raises
    ------
    ValueError
        The arguments differ in length. Nothing was submitted.
    TypeError
        An argument is of the wrong type. Nothing was submitted.
    SettingsError
        A setting is missing.
    ServiceError, StorageError
        The queue or the object storage is away when the submission begins.
    """
    settings.require(settings.ALL)
    rows = itertools.zip_longest(
        directories, codes, versions, commands, cores, memorymb, timeseconds, fillvalue=_ABSENT
    )
    cases = []
    for row in rows:
        if _ABSENT in row:
            raise ValueError("the arguments of task_submit_many must all have the same length")
        directory, *limits = row
        names = ("code", "version", "command", "cores", "memorymb", "timeseconds")
        spec = as_spec(
            **dict(zip(names, limits)),
            diskmb=diskmb,
            shmmb=shmmb,
            priority=priority,
            share_container=share_container,
            retry=retry,
            retry_on=retry_on,
            most_memorymb=most_memorymb,
            most_timeseconds=most_timeseconds,
        )
        cases.append(Case(as_folder("each of directories", directory), spec, with_results))
    store = Store(settings.storage_settings(), connections=STAGERS)
    with QueueClient(settings.service_settings()) as service:
        refused = _refused(store, service, cases, strict=strict)
        left = [case for case in cases if case.directory not in refused]
        if new:
            names_left = [case.directory for case in left]
            selection = _make_new(service, names_left, alone=False, with_results=with_results)
            refused.update(selection.failed)
            left = [case for case in left if case.directory not in refused]
        report = submit_batch(store, service, left)
    return {**submitted_before(report), **refused, **report.failed}


def _refused(
    store: Store, service: QueueClient, cases: list[Case], *, strict: bool
) -> dict[str, str]:
    """Return the folders whose jobs the queue would refuse, and why."""
    refused: dict[str, str] = {}
    left = []
    unpublished = _unpublished(store, service, [case.spec for case in cases])
    for case in cases:
        try:
            case.spec.check()
        except RefusedError as error:
            refused[case.directory] = str(error)
            continue
        if case.spec.image in unpublished:
            refused[case.directory] = unpublished[case.spec.image]
        else:
            left.append(case)
    requests = [case.spec.request("", "default") for case in left]
    refusals = find_refusals(service, requests, warn, strict=strict, option=STRICT)
    refused.update({case.directory: why for case, why in zip(left, refusals) if why is not None})
    return refused


def _unpublished(store: Store, service: QueueClient, specs: list[JobSpec]) -> dict[str, str]:
    """Return the images that are not published, each with the error. Each is checked once."""
    found: dict[str, str] = {}
    tokens = ImageTokens(service)
    for spec in {spec.image: spec for spec in specs}.values():
        try:
            check_published(store, tokens, spec.code, spec.version)
        except NotFoundError as error:
            found[spec.image] = str(error)
    return found


def _make_new(
    service: QueueClient, directories: list[str], *, alone: bool, with_results: bool
) -> Selection:
    """Prepare copied and edited folders for a new job. The selection has the refused ones."""
    selection = select_unsound(service, provenances_of(directories), alone=alone)
    archive_previous(selection, with_results=with_results)
    warn_of_unknown(selection)
    return selection


def submitted_before(report: BatchReport) -> Mapping[str, str]:
    """Return a sentence for each folder that was submitted before."""
    return dict.fromkeys(report.skipped, "Directory already submitted.")


def warn_of_edits(directory: str) -> None:
    """Warn if an interrupted submission had submitted the job with other input."""
    try:
        provenance = provenance_of(directory)
    except LeruliError:
        return
    if not provenance.is_sound:
        warn(provenance.sentence(directory))


def warn_of_unknown(selection: Selection) -> None:
    """Warn of folders without a record that distinguishes results from input."""
    for name, found in selection.leftovers.items():
        if not found.is_known:
            warn(
                f"{name} has no record that tells results from input. Older clients write none. "
                "All its files were sent. Delete results that are not input."
            )
