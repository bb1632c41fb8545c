"""Giving folders another job after the one they had is over, keeping what that one left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from leruli.errors import RefusedError
from leruli.jobfolder import JobFolder
from leruli.manyjobs import NOT_SUBMITTED, FolderJob


@dataclass
class Selection:
    """Which folders get another job, and why the others do not."""

    #: Folder: the job that makes room; None where that was made before an interruption.
    chosen: dict[str, str | None] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  #: folder: why, in a few words
    failed: dict[str, str] = field(default_factory=dict)  #: folder: why, in a sentence


def select(folders: Iterable[FolderJob], *, failed_only: bool) -> Selection:
    """Choose the folders whose job is over, or has failed; touches nothing.

    Folders whose resubmission was interrupted are chosen too, so that it is finished.
    """
    selection = Selection()
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
    return selection


def make_room(selection: Selection) -> None:
    """Move what the last jobs left in the chosen folders out of the way of the next ones.

    A folder where that fails is not chosen any more.
    """
    for directory, jobid in list(selection.chosen.items()):
        try:
            JobFolder(directory).set_aside(jobid)
        except RefusedError as error:
            del selection.chosen[directory]
            selection.failed[directory] = str(error)
