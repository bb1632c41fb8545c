"""Results of earlier jobs that lie in a folder which is submitted again.

Sent as input they would come back as results of the new job, even of one that failed at once. The
record of the folder tells them from input.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from leruli.errors import RefusedError
from leruli.record import FileState, Record


@dataclass(frozen=True)
class Leftovers:
    """What earlier jobs left in a folder, by name."""

    #: Whether the folder has a record: without one all files are taken for input.
    is_known: bool = False
    #: Results that are as they were fetched.
    stale: Mapping[str, FileState] = field(default_factory=dict)
    #: Inputs that are as the last job rewrote them.
    rewritten: tuple[str, ...] = ()
    #: Results that were changed after they were fetched, and so are the user's.
    changed: tuple[str, ...] = ()
    #: Folders that jobs made: they are no input unless something else is in them.
    made: frozenset[str] = frozenset()


def leftovers_of(
    directory: str, record: Record | None, advance: Callable[[int], None] = lambda _: None
) -> Leftovers:
    """Find in a folder what its record knows of earlier jobs; nothing is changed.

    `advance` is called with 0 while files are read. Raises RefusedError for files that cannot be
    read.
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
            # A link was put there since, by the user.
            if not Path(path).is_file() or os.path.realpath(path) != path:
                continue
            if not fetched.is_at(path, advance):
                if submitted is None or not submitted.is_at(path, advance):
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
