"""Submitting folders from Python."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from leruli import settings
from leruli.api import Service
from leruli.batch import STAGERS, Case, submit_batch
from leruli.checking import check_requests, find_refusals
from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.images import ImageTokens, check_published
from leruli.python_api.arguments import (
    STRICT,
    Folder,
    as_folder,
    as_spec,
    warn,
)
from leruli.resubmitting import (
    Selection,
    make_room,
    select_unsound,
)
from leruli.standing import standing_of, standings_of
from leruli.storage import Store
from leruli.submitting import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    Command,
    JobSpec,
    check_image,
    prepare,
    submit,
)

if TYPE_CHECKING:
    from leruli.batch import BatchReport

# Stands for what a too short argument of `task_submit_many` lacks.
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
    name: str | None = None,
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> str:
    """Submit a folder as a job.

    Leaves leruli.bucket, leruli.job and leruli.folder in the folder. Called again after an
    interruption it goes on with the same bucket, and the folder gets one job.

    Parameters
    ----------
    directory
        The folder with the input files.
    code, version
        The image to run in; `task_list_codes` lists those of the group.
    command
        One line of bash, or words that are joined with spaces.
    cores
        CPU cores.
    memorymb
        Memory limit in MB.
    timeseconds
        Time limit in seconds. (The command line takes minutes.)
    diskmb
        Limit of disk in MB, input and output included; None: the service's default.
    shmmb
        Size of /dev/shm in MB; None: 64. What is in it counts as memory.
    priority
        From -1000 to 1000: among one's own waiting jobs the highest goes first.
    name
        What the job is called; None: as its folder.
    new
        Submit a copied folder as a job of its own, and a folder again that was edited since.
    with_results
        Send results of earlier jobs too, as for a restart.
    strict
        Refuse a job that no machine of the group can hold now. Otherwise LeruliWarning says so, and
        the job waits.

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
        The queue would not take the job. Nothing was uploaded or written.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
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
        name=name,
    )
    spec.check()
    prepared = None if new else prepare(directory, spec, with_results=with_results)
    store = Store(settings.storage_settings())
    with Service(settings.service_settings()) as service:
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
    new: bool = False,
    with_results: bool = False,
    strict: bool = False,
) -> dict[str, str]:
    """Submit many folders.

    Parameters
    ----------
    directories, codes, versions, commands, cores, memorymb, timeseconds
        As those of `task_submit`, one of each for a folder.
    diskmb, shmmb, priority, new, with_results, strict
        As those of `task_submit`, for all folders.

    Returns
    -------
    dict
        Folders that were not submitted, and why, in a sentence: those that were submitted before,
        copies of other folders and edited folders among them. It is empty if all were submitted.

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
        spec = as_spec(**dict(zip(names, limits)), diskmb=diskmb, shmmb=shmmb, priority=priority)
        cases.append(Case(as_folder("each of directories", directory), spec, with_results))
    store = Store(settings.storage_settings(), connections=STAGERS)
    with Service(settings.service_settings()) as service:
        refused = _refused(store, service, cases, strict=strict)
        left = [case for case in cases if case.directory not in refused]
        if new:
            names_left = [case.directory for case in left]
            selection = _make_new(service, names_left, alone=False, with_results=with_results)
            refused.update(selection.failed)
            left = [case for case in left if case.directory not in refused]
        report = submit_batch(store, service, left)
    return {**submitted_before(report), **refused, **report.failed}


def _refused(store: Store, service: Service, cases: list[Case], *, strict: bool) -> dict[str, str]:
    """Return the folders whose jobs could only be refused, and why."""
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


def _unpublished(store: Store, service: Service, specs: list[JobSpec]) -> dict[str, str]:
    """Return the images that are not published and why not; each is looked for once."""
    found: dict[str, str] = {}
    tokens = ImageTokens(service)
    for spec in {spec.image: spec for spec in specs}.values():
        try:
            check_published(store, tokens, spec.code, spec.version)
        except NotFoundError as error:
            found[spec.image] = str(error)
    return found


def _make_new(
    service: Service, directories: list[str], *, alone: bool, with_results: bool
) -> Selection:
    """Let copied and edited folders be submitted, as far as they may be."""
    selection = select_unsound(service, standings_of(directories), alone=alone)
    make_room(selection, with_results=with_results)
    warn_of_unknown(selection)
    return selection


def submitted_before(report: BatchReport) -> Mapping[str, str]:
    """Return the folders that were submitted before, and that this is so."""
    return dict.fromkeys(report.skipped, "Directory already submitted.")


def warn_of_edits(directory: str) -> None:
    """Warn if the job was accepted before, by an interrupted submission, with other input."""
    try:
        standing = standing_of(directory)
    except LeruliError:
        return
    if not standing.is_sound:
        warn(standing.sentence(directory))


def warn_of_unknown(selection: Selection) -> None:
    """Warn of folders of which nothing tells results from input."""
    for name, found in selection.leftovers.items():
        if not found.is_known:
            warn(
                f"{name} has no record that tells results from input, as after an older client: "
                "all its files were sent. Delete results that are no input."
            )
