"""Results of earlier jobs in a folder that is submitted again.

If they were sent as input, they would come back as results of the new job, even of a job that
failed at once. The record of the folder distinguishes them from input.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from leruli.errors import RefusedError
from leruli.folder.record import FileState, Record


@dataclass(frozen=True)
class Leftovers:
    """The files that earlier jobs left in a folder, by name."""

    #: Whether the folder has a record. Without one all files count as input.
    is_known: bool = False
    #: Results that are unchanged since they were fetched.
    stale: Mapping[str, FileState] = field(default_factory=dict)
    #: Inputs with the content that the last job gave them.
    rewritten: tuple[str, ...] = ()
    #: Results that the user changed after they were fetched. They count as input.
    changed: tuple[str, ...] = ()
    #: Folders that jobs made. They are input only if they hold other files.
    made: frozenset[str] = frozenset()


def leftovers_of(directory: str, record: Record | None) -> Leftovers:
    """Find the files of earlier jobs in a folder, by its record. Changes nothing.

    Raises RefusedError for files that cannot be read.
    """
    if record is None:
        return Leftovers()
    stale, rewritten, changed = {}, [], []
    root = os.path.realpath(directory)
    carried = frozenset(record.carried)
    try:
        for name, fetched in record.results.items():
            submitted = record.inputs.get(name)
            path = str(Path(root, *name.split("/")))
            # The user has put a link in its place.
            if not Path(path).is_file() or os.path.realpath(path) != path:
                continue
            if not fetched.is_at(path):
                if submitted is None or not submitted.is_at(path):
                    changed.append(name)
            elif submitted is None or name in carried:
                stale[name] = fetched
            elif submitted.sha256 != fetched.sha256:
                rewritten.append(name)
    except OSError as error:
        raise RefusedError(
            f"Cannot read {error.filename or directory}: {error.strerror}."
        ) from error
    made = _folders_above(record.results).difference(record.folders)
    return Leftovers(True, stale, tuple(rewritten), tuple(changed), frozenset(made))


def _folders_above(names: Iterable[str]) -> set[str]:
    """Return the names of all folders that hold one of the files, at any depth."""
    return {
        str(parent) for name in names for parent in Path(name).parents if str(parent) != os.curdir
    }
