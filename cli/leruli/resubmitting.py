"""Giving folders another job: after theirs is over, or because they are copies of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leruli.api import BULK_LIMIT
from leruli.aside import leave_original, set_aside
from leruli.checking import STRICT_OPTION, find_refusals
from leruli.errors import LeruliError, NotFoundError, RefusedError
from leruli.jobfolder import JobFolder
from leruli.leftovers import Leftovers
from leruli.manyjobs import NOT_SUBMITTED, FolderJob, ask_for_folders
from leruli.record import read_record
from leruli.recovery import recover
from leruli.standing import Standing, named, standings_of
from leruli.submitting import JobSpec, check_image

if TYPE_CHECKING:
    from leruli.api import Service
    from leruli.journal import Journal
    from leruli.storage import Store

_SPEC_FIELDS = frozenset(one.name for one in dataclasses.fields(JobSpec))
_NEEDED = ("code", "version", "command")


@dataclass
class Selection:
    """Which folders get another job, and why the others do not."""

    #: Folder: the job that makes room; None where that was made before an interruption.
    chosen: dict[str, str | None] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)  #: folders that get a job of their own
    skipped: dict[str, str] = field(default_factory=dict)  #: folder: why, in a few words
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence
    #: Folder: what earlier jobs had left in it.
    leftovers: dict[str, Leftovers] = field(default_factory=dict)

    @property
    def directories(self) -> list[str]:
        """The folders that get another job."""
        return [*self.copies, *self.chosen]

    def refuse(self, directory: str, why: str) -> None:
        """Note that a folder gets no other job."""
        self.chosen.pop(directory, None)
        if directory in self.copies:
            self.copies.remove(directory)
        self.failed[directory] = why


def select_over(
    service: Service,
    folders: Sequence[str],
    journal: Journal | None = None,
    *,
    failed_only: bool = False,
    new: bool = False,
) -> Selection:
    """Choose the folders whose job is over, or has failed, and with `new` copied folders.

    Folders that do not know their job are given it back, from the journal or by the service.
    """
    selection, own = without_copies(standings_of(folders), new=new and not failed_only)
    recover(journal, own, service.find_jobs)
    asked = ask_for_folders(own, journal, service.find_jobs, service.statuses)
    select(selection, asked, failed_only=failed_only)
    return selection


def find_specs(
    store: Store, service: Service, selection: Selection, wanted: Mapping[str, Any]
) -> dict[str, JobSpec]:
    """Return what to run in each folder: as before, but for what is `wanted`, fields of JobSpec.

    A folder where that is not known is not chosen any more, nor one whose image is not published.
    Raises NotFoundError when the image of all is not published.
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
    service: Service,
    selection: Selection,
    specs: dict[str, JobSpec],
    warn: Callable[[str], None],
    *,
    strict: bool,
    option: str = STRICT_OPTION,
) -> None:
    """Choose no more the folders whose jobs the queue would refuse; see `find_refusals`."""
    requests = [spec.request("", "default") for spec in specs.values()]
    refusals = find_refusals(service, requests, warn, strict=strict, option=option)
    for directory, why in zip(list(specs), refusals):
        if why is not None:
            del specs[directory]
            selection.refuse(directory, why)


def without_copies(
    standings: Mapping[str, Standing | RefusedError], *, new: bool
) -> tuple[Selection, list[str]]:
    """Return what becomes of copied folders, and the folders that are none.

    Copies get a job of their own if `new` is given, unless one of them may be the original.
    Touches nothing.
    """
    selection = Selection()
    others = []
    for name, standing in standings.items():
        if isinstance(standing, RefusedError):
            selection.failed[name] = str(standing)
        elif not standing.is_copy:
            others.append(name)
        elif new and not standing.twins:
            selection.copies.append(name)
        else:
            selection.failed[name] = standing.sentence(name)
    return selection, others


def select(selection: Selection, folders: Iterable[FolderJob], *, failed_only: bool) -> None:
    """Choose the folders whose job is over, or has failed; touches nothing.

    Folders whose resubmission was interrupted are chosen too, so that it is finished.
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
    service: Service, standings: Mapping[str, Standing | RefusedError], *, alone: bool
) -> Selection:
    """Choose copies, and folders that were edited after their job was submitted and is over.

    A folder `alone` that has a job and no record counts as a copy, as nothing tells it from one.
    Touches nothing. Other folders are left as they are.
    """
    copies: dict[str, Standing | RefusedError] = {}
    edited: dict[str, tuple[str, Standing]] = {}
    unknown = []
    for name, standing in standings.items():
        if isinstance(standing, RefusedError):
            continue
        job = JobFolder(name).job()
        if standing.is_copy:
            copies[name] = standing
        elif job is not None and standing.edited:
            edited[name] = job, standing
        elif job is not None and standing.record is None and alone:
            unknown.append(name)
    selection, _ = without_copies(copies, new=True)
    selection.copies += unknown
    states = _states(service, [job for job, _ in edited.values()])
    for (name, (job, standing)), state in zip(edited.items(), states):
        if isinstance(state, LeruliError):
            selection.failed[name] = str(state)
        elif state.is_final:
            selection.chosen[name] = job
        else:
            selection.failed[name] = (
                f"{named(standing.edited)} changed after the job of this folder was submitted, and "
                f"that job is {state.status}. Wait until it is over, or cancel it with `leruli "
                "task-cancel`. Then submit the folder with --new again."
            )
    return selection


def _states(service: Service, jobs: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(jobs), BULK_LIMIT):
        found += service.statuses(jobs[start : start + BULK_LIMIT])
    return found


def make_room(selection: Selection, *, with_results: bool = False) -> None:
    """Move what the last jobs left in the chosen folders out of the way of the next ones.

    A folder where that fails is not chosen any more. `with_results` leaves results where they are.
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
    """Return what the last job of a folder was submitted with, as fields of JobSpec.

    It is empty when the folder has no record of that job. Raises RefusedError.
    """
    record = read_record(directory)
    if record is None:
        return {}
    folder = JobFolder(directory)
    # Another program submitted it since.
    if folder.job() is not None and folder.bucket() not in (None, record.bucket):
        return {}
    return {name: value for name, value in record.spec.items() if name in _SPEC_FIELDS}


def spec_of(directory: str, wanted: Mapping[str, Any]) -> JobSpec:
    """Return what to run in a folder: as before, but for what is `wanted`.

    Both are fields of JobSpec. Raises RefusedError if what to run is not known.
    """
    merged = {**last_spec(directory), **wanted}
    if not all(merged.get(name) for name in _NEEDED):
        raise RefusedError(
            "This folder has no record of what was submitted, as after an older client: give "
            "CODE VERSION COMMAND."
        )
    spec = JobSpec(**merged)
    spec.check()
    return spec
