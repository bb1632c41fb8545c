"""Finding the journal of a batch from any folder of its tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from leruli.errors import LeruliError
from leruli.folder.job_folder import JOURNAL_PREFIX
from leruli.folder.journal import JournalView

# Levels below the current folder in which journals are searched.
_LEVELS_BELOW = ("", "*/", "*/*/")


def newest_batch_near(start: str) -> str | None:
    """Return the id of the batch that was submitted last in the nearest folder with one."""
    for group in _near(Path(start).resolve()):
        for view in sorted(group, key=lambda one: one.path.stat().st_mtime_ns, reverse=True):
            if view.batch is not None:
                return view.batch
    return None


def find_journal(batchid: str, start: str) -> JournalView | None:
    """Return the journal of a batch: of this folder, of those above it, or of two levels below."""
    for group in _near(Path(start).resolve()):
        for view in group:
            if batchid in view.batches:
                return view
    return None


def _near(start: Path) -> Iterator[list[JournalView]]:
    """Yield the journals of each folder: first from here upwards, then below."""
    for folder in (start, *start.parents):
        yield _in(folder, "")
    for levels in _LEVELS_BELOW[1:]:
        yield _in(start, levels)


def _in(folder: Path, levels: str) -> list[JournalView]:
    views = []
    try:
        paths = [path for path in folder.glob(f"{levels}{JOURNAL_PREFIX}*") if path.is_file()]
    except OSError:
        return []  # a folder that may not be read
    for path in sorted(paths):
        try:
            views.append(JournalView.at(path))
        except LeruliError:
            continue  # the journal of somebody else
    return views
