"""Submitting folders again: their job is over, or they are copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.folder.history import leave_original, set_aside
from leruli.folder.job_folder import JobFolder
from leruli.folder.leftovers import Leftovers
from leruli.folder.provenance import Provenance, named, provenances_of
from leruli.folder.record import read_record
from leruli.jobs.check import STRICT_OPTION, find_refusals
from leruli.jobs.many import NOT_SUBMITTED, FolderJob, ask_for_folders
from leruli.jobs.recover import recover
from leruli.jobs.submit import JobSpec, check_image
from leruli.service.queue_client import BULK_LIMIT
from leruli.service.retry_rule import FIELDS

if TYPE_CHECKING:
    from leruli.folder.journal import Journal
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

_SPEC_FIELDS = frozenset(one.name for one in dataclasses.fields(JobSpec))
_NEEDED = ("code", "version", "command")


@dataclass
class Selection:
    """Which folders get another job, and why the others do not."""

    #: Folder: the job to move to the history. None: it was moved before an interruption.
    chosen: dict[str, str | None] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)  #: folders that get a job of their own
    skipped: dict[str, str] = field(default_factory=dict)  #: folder: why, in a few words
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence
    #: Folder: the leftovers of earlier jobs in it.
    leftovers: dict[str, Leftovers] = field(default_factory=dict)

    @property
    def directories(self) -> list[str]:
        """The folders that get another job."""
        return [*self.copies, *self.chosen]

    def refuse(self, directory: str, why: str) -> None:
        """Record why a folder gets no other job."""
        self.chosen.pop(directory, None)
        if directory in self.copies:
            self.copies.remove(directory)
        self.failed[directory] = why


def select_over(
    service: QueueClient,
    folders: Sequence[str],
    journal: Journal | None = None,
    *,
    failed_only: bool = False,
    new: bool = False,
) -> Selection:
    """Choose the folders whose job is over (or failed), and with `new` also copied folders.

    Folders without their job id get it from the journal or from the service.
    """
    selection, own = without_copies(provenances_of(folders), new=new and not failed_only)
    recover(journal, own, service.find_jobs)
    asked = ask_for_folders(own, journal, service.find_jobs, service.statuses)
    select(selection, asked, failed_only=failed_only)
    return selection


def find_specs(
    store: Store, service: QueueClient, selection: Selection, wanted: Mapping[str, Any]
) -> dict[str, JobSpec]:
    """Return the spec for each folder: the last one, changed by `wanted` (fields of JobSpec).

    Folders without a known spec, and folders whose image is not published, are refused. Raises
    NotFoundError if all folders have one image and it is not published.
    """
    specs: dict[str, JobSpec] = {}
    for directory in selection.directories:
        try:
            specs[directory] = spec_of(directory, wanted)
        except RefusedError as error:
            selection.refuse(directory, str(error))
    images = {spec.image: spec for spec in specs.values()}
    for image, spec in images.items():
        try:
            check_image(store, service, spec)
        except NotFoundError as error:
            if len(images) == 1:
                raise
            for directory in [name for name, one in specs.items() if one.image == image]:
                del specs[directory]
                selection.refuse(directory, str(error))
    return specs


def drop_refused(
    service: QueueClient,
    selection: Selection,
    specs: dict[str, JobSpec],
    warn: Callable[[str], None],
    *,
    strict: bool,
    option: str = STRICT_OPTION,
) -> None:
    """Deselect folders whose jobs the service would refuse; see `find_refusals`."""
    requests = [spec.request("", "default") for spec in specs.values()]
    refusals = find_refusals(service, requests, warn, strict=strict, option=option)
    for directory, why in zip(list(specs), refusals):
        if why is not None:
            del specs[directory]
            selection.refuse(directory, why)


def without_copies(
    provenances: Mapping[str, Provenance | RefusedError], *, new: bool
) -> tuple[Selection, list[str]]:
    """Return the selection among copied folders, and the other folders. Changes nothing.

    With `new` copies get their own job, unless one of them may be the original.
    """
    selection = Selection()
    others = []
    for name, provenance in provenances.items():
        if isinstance(provenance, RefusedError):
            selection.failed[name] = str(provenance)
        elif not provenance.is_copy:
            others.append(name)
        elif new and not provenance.twins:
            selection.copies.append(name)
        else:
            selection.failed[name] = provenance.sentence(name)
    return selection, others


def select(selection: Selection, folders: Iterable[FolderJob], *, failed_only: bool) -> None:
    """Choose the folders whose job is over, or has failed. Changes nothing.

    A folder whose resubmission was interrupted is chosen too, to finish it.
    """
    for one in folders:
        if one.problem is not None:
            selection.failed[one.directory] = one.problem
        elif one.state is None:
            if JobFolder(one.directory).was_set_aside():
                selection.chosen[one.directory] = None
            else:
                selection.skipped[one.directory] = NOT_SUBMITTED
        elif one.state.status == "failed" or (one.state.is_final and not failed_only):
            selection.chosen[one.directory] = one.jobid
        else:
            selection.skipped[one.directory] = one.state.status


def select_unsound(
    service: QueueClient, provenances: Mapping[str, Provenance | RefusedError], *, alone: bool
) -> Selection:
    """Choose copies, and folders that were edited after their job was submitted and is over.

    With `alone`, a folder with a job and without a record counts as a copy, because it may be one.
    Changes nothing.
    """
    copies: dict[str, Provenance | RefusedError] = {}
    edited: dict[str, tuple[str, Provenance]] = {}
    unknown = []
    for name, provenance in provenances.items():
        if isinstance(provenance, RefusedError):
            continue
        job = JobFolder(name).job()
        if provenance.is_copy:
            copies[name] = provenance
        elif job is not None and provenance.edited:
            edited[name] = job, provenance
        elif job is not None and provenance.record is None and alone:
            unknown.append(name)
    selection, _ = without_copies(copies, new=True)
    selection.copies += unknown
    states = _states(service, [job for job, _ in edited.values()])
    for (name, (job, provenance)), state in zip(edited.items(), states):
        if isinstance(state, LeruliError):
            selection.failed[name] = str(state)
        elif state.is_final:
            selection.chosen[name] = job
        else:
            selection.failed[name] = (
                f"{named(provenance.edited)} changed after the job of this folder was submitted, "
                f"and that job is {state.status}. Wait until it is over, or cancel it with `leruli "
                "task-cancel`. Then submit the folder with --new again."
            )
    return selection


def _states(service: QueueClient, jobs: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(jobs), BULK_LIMIT):
        found += service.statuses(jobs[start : start + BULK_LIMIT])
    return found


def archive_previous(selection: Selection, *, with_results: bool = False) -> None:
    """Move the files of the last jobs in the chosen folders to their history.

    A folder where that fails is refused. `with_results` leaves the results in the folder.
    """
    for directory in selection.directories:
        try:
            if directory in selection.chosen:
                job = selection.chosen[directory]
                found = set_aside(directory, job, with_results=with_results)
            else:
                found = leave_original(directory, with_results=with_results)
        except RefusedError as error:
            selection.refuse(directory, str(error))
        else:
            selection.leftovers[directory] = found


def last_spec(directory: str) -> Mapping[str, Any]:
    """Return the spec of a folder's last job as fields of JobSpec, empty without a record of it.

    Raises RefusedError.
    """
    record = read_record(directory)
    if record is None:
        return {}
    folder = JobFolder(directory)
    # Another program has submitted the folder after that.
    if folder.job() is not None and folder.bucket() not in (None, record.bucket):
        return {}
    return {name: value for name, value in record.spec.items() if name in _SPEC_FIELDS}


def spec_of(directory: str, wanted: Mapping[str, Any]) -> JobSpec:
    """Return the spec for a folder: the last one, changed by `wanted` (fields of JobSpec).

    Raises RefusedError if the image or the command is not known.
    """
    last = dict(last_spec(directory))
    if wanted.get("retry") == 0:
        # The job gets no rule: what else the last rule said goes with it.
        last = {name: value for name, value in last.items() if name not in FIELDS}
    merged = {**last, **wanted}
    if not all(merged.get(name) for name in _NEEDED):
        raise RefusedError(
            "This folder has no record of its last job. Older clients write none. Give CODE "
            "VERSION COMMAND."
        )
    spec = JobSpec(**merged)
    spec.check()
    return spec
