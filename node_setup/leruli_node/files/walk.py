"""Walks a job's output and decides which files can be objects of their own.

Depth, open files and memory are bounded, whatever the job left (docs/nodes/agent.md, "Output").
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

NAMES_SHOWN = 5
NOT_UPLOADED = "not uploaded, and gone with the job's folder"
#: Folders above an object. Deeper files are only packed into the archive of the rest.
DEEPEST = 100
_DEEPEST_LOOK = 250
_LONGEST_KEY = 1024
_LONGEST_PATH = 4095
# Names of one folder that are sorted in memory. A larger folder keeps its own order.
_SORTED = 10_000
# Names that are visited in one output. Each visit costs some microseconds.
MOST_VISITS = 5_000_000
# Permanent errors of one file. Any other error (a failing disk, too many open files) is the node's.
UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENXIO)
# S3's listings are XML, which cannot contain these characters.
_CONTROL = frozenset(map(chr, (*range(32), 127, 0xFFFE, 0xFFFF)))
_SINGULAR = {
    "pipes, sockets or devices": "pipe, socket or device",
    "files": "file",
    "folders": "folder",
    "links": "link",
}
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Skipped:
    """Entries that are skipped, by reason: how many, and the first few names."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Add one name. `reason` is a phrase that begins with a plural such as "links"."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.by_reason.setdefault(reason, [])
        if len(names) < NAMES_SHOWN:
            names.append(name)

    def summary(self) -> str:
        """Return the numbers by reason, without names."""
        return ", ".join(_counted(count, reason) for reason, count in sorted(self.counts.items()))

    def sentences(self, said: str = NOT_UPLOADED) -> list[str]:
        """Return one sentence for each reason, with the first few names."""
        return [
            f"{said}: {_counted(self.counts[reason], reason)}: {', '.join(names)}"
            + (
                f" and {self.counts[reason] - NAMES_SHOWN} more"
                * (self.counts[reason] > NAMES_SHOWN)
            )
            for reason, names in sorted(self.by_reason.items())
        ]


def _counted(count: int, reason: str) -> str:
    """Return "2 files with a reserved name", or "1 file with a reserved name"."""
    if count == 1:
        # Only the first noun of a reason depends on the number.
        reason = re.sub("|".join(_SINGULAR), lambda found: _SINGULAR[found[0]], reason, count=1)
    return f"{count} {reason}"


def without_names(rest: dict[str, list[Skipped]]) -> list[str]:
    """Say where the rest of an output went: how many files, by reason."""
    said = []
    for where, parts in rest.items():
        counts = ", ".join(part.summary() for part in parts if part.counts)
        if counts:
            said.append(f"{where}: {counts}")
    return [*said, "joberr.txt has the names"] if said else []


@dataclass(frozen=True)
class Entry:
    """A file or link in the folder of the descriptor `folder`.

    `depth` counts the folders above it.
    """

    key: str
    name: str
    folder: int
    depth: int
    facts: os.stat_result

    @property
    def is_link(self) -> bool:
        """Whether it is a link; otherwise it is a regular file."""
        return stat.S_ISLNK(self.facts.st_mode)

    def unfit(self) -> str | None:
        """Return why it cannot be an object of its own, None if it can."""
        if self.is_link:
            return "links"
        try:
            encoded = self.key.encode("utf-8")
        except UnicodeEncodeError:
            return "files with a name that is not UTF-8"
        if not _CONTROL.isdisjoint(self.key):
            return "files with control characters in the name"
        if len(encoded) > _LONGEST_KEY:
            return f"files with a path longer than {_LONGEST_KEY} bytes"
        if self.depth > DEEPEST:
            return f"files in more than {DEEPEST} folders"
        return None

    def open(self, skipped: Skipped) -> int | None:
        """Open a regular file. Return None and add it to `skipped` if it cannot be read.

        Raises OSError.
        """
        try:
            descriptor = os.open(self.name, OPEN_FILE, dir_fd=self.folder)
        except OSError as error:
            _skip_unreadable(error, self.key, skipped)
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)  # pragma: no cover - it was replaced in between
        return None


def walk(top: int, skipped: Skipped) -> Iterator[Entry]:
    """Yield the regular files and links below the folder of the descriptor `top`.

    Files of a folder come before its subfolders. No link is followed: every name is opened relative
    to its folder, without links and without blocking (a pipe would block). The same tree gives the
    same order. An entry is valid until the next one.

    Raises
    ------
    OSError
        The disk failed, not only one file.
    """
    visits = _Visits()
    stack: list[tuple[int, str, Iterator[str]]] = []
    try:
        yield from _files(top, "", 0, skipped, visits)
        stack.append((os.dup(top), "", _folders(top)))
        while stack:
            folder, prefix, names = stack[-1]
            name = next(names, None)
            if name is None or visits.over:
                os.close(stack.pop()[0])
                continue
            visits.done += 1
            key = prefix + name
            below = _enter(folder, name, key, len(stack), skipped)
            if below is None:
                continue
            stack.append((below, key + "/", _folders(below)))
            yield from _files(below, key + "/", len(stack) - 1, skipped, visits)
    finally:
        for folder, _, names in stack:
            names.close()  # type: ignore[attr-defined]
            os.close(folder)
    if visits.over:
        skipped.add(f"or more names after the first {MOST_VISITS:,}, which were not looked at", "…")


class _Visits:
    def __init__(self) -> None:
        self.done = 0

    @property
    def over(self) -> bool:
        return self.done >= MOST_VISITS


def _enter(folder: int, name: str, key: str, depth: int, skipped: Skipped) -> int | None:
    if depth > _DEEPEST_LOOK:
        skipped.add(f"folders below {_DEEPEST_LOOK} others, with their content", shown(key))
        return None
    if len(os.fsencode(key)) > _LONGEST_PATH:
        skipped.add(f"folders with a path longer than {_LONGEST_PATH} bytes", shown(key))
        return None
    try:
        return os.open(name, OPEN_FOLDER, dir_fd=folder)
    except OSError as error:
        _skip_unreadable(error, key, skipped)
        return None


def _files(
    folder: int, prefix: str, depth: int, skipped: Skipped, visits: _Visits
) -> Iterator[Entry]:
    for name in _ordered(folder, folders=False):
        if visits.over:
            return
        visits.done += 1
        key = prefix + name
        try:
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            _skip_unreadable(error, key, skipped)
            continue
        if not stat.S_ISREG(facts.st_mode) and not stat.S_ISLNK(facts.st_mode):
            if not stat.S_ISDIR(facts.st_mode):
                skipped.add("pipes, sockets or devices", shown(key))
            continue
        if len(os.fsencode(key)) > _LONGEST_PATH:
            skipped.add(f"files with a path longer than {_LONGEST_PATH} bytes", shown(key))
            continue
        yield Entry(key, name, folder, depth, facts)


def _folders(folder: int) -> Iterator[str]:
    yield from _ordered(folder, folders=True)


def _ordered(folder: int, folders: bool) -> Iterator[str]:
    """Yield the names of a folder's subfolders, or of everything else in it."""
    with os.scandir(folder) as entries:
        names = (one.name for one in entries if one.is_dir(follow_symlinks=False) == folders)
        # Fewer folder names are held: there is one such list for each level of the tree.
        most = _SORTED // DEEPEST if folders else _SORTED
        first = list(islice(names, most + 1))
        if len(first) <= most:
            first.sort()
        yield from first
        yield from names


def _skip_unreadable(error: OSError, key: str, skipped: Skipped) -> None:
    if error.errno not in UNREADABLE:
        raise error
    skipped.add("unreadable files", shown(key))


def shown(name: str) -> str:
    """Return a name in printable form: other bytes than UTF-8 and line breaks are escaped."""
    text = os.fsencode(name[:500]).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:120]
