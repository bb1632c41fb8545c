"""Going through a job's output: what is there, and what of it can be an object of its own.

Depth, open files and memory are bounded, whatever the job left (docs/nodes/agent.md, "Output").
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

NAMES_SHOWN = 5
NOT_UPLOADED = "not uploaded, and gone with the job's folder"
#: Folders in folders of an object; deeper ones are looked into for the archive of the rest.
DEEPEST = 100
_DEEPEST_LOOK = 250
_LONGEST_KEY = 1024
_LONGEST_PATH = 4095
# Names of one folder that are held to be sorted; a larger one is taken in its own order.
_SORTED = 10_000
# Names that are looked at in one output; each costs some microseconds.
MOST_VISITS = 5_000_000
# Of one file, and for good; anything else (a disk that fails, too many open files) is the node's.
UNREADABLE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENXIO)
# What S3's listings, which are XML, cannot carry.
_CONTROL = frozenset(map(chr, (*range(32), 127, 0xFFFE, 0xFFFF)))
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Skipped:
    """What is passed over, by reason: how many, and the first few names."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Note one name; `reason` is a phrase such as "links"."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.by_reason.setdefault(reason, [])
        if len(names) < NAMES_SHOWN:
            names.append(name)

    def summary(self) -> str:
        """How many by reason, without names."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.counts.items()))

    def sentences(self, said: str = NOT_UPLOADED) -> list[str]:
        """One sentence a reason, with the first few names."""
        return [
            f"{said}: {self.counts[reason]} {reason}: {', '.join(names)}"
            + (
                f" and {self.counts[reason] - NAMES_SHOWN} more"
                * (self.counts[reason] > NAMES_SHOWN)
            )
            for reason, names in sorted(self.by_reason.items())
        ]


def without_names(rest: dict[str, list[Skipped]]) -> list[str]:
    """Where the rest of an output went: how many files, by reason."""
    said = []
    for where, parts in rest.items():
        counts = ", ".join(part.summary() for part in parts if part.counts)
        if counts:
            said.append(f"{where}: {counts}")
    return [*said, "joberr.txt has the names"] if said else []


@dataclass(frozen=True)
class Entry:
    """A file or link in the open folder `folder`; `depth` counts the folders above it."""

    key: str
    name: str
    folder: int
    depth: int
    facts: os.stat_result

    @property
    def is_link(self) -> bool:
        """Whether it is a link, and not a regular file."""
        return stat.S_ISLNK(self.facts.st_mode)

    def unfit(self) -> str | None:
        """Why it cannot be an object of its own; None if it can."""
        if self.is_link:
            return "links"
        try:
            encoded = self.key.encode("utf-8")
        except UnicodeEncodeError:
            return "files whose names are not UTF-8"
        if not _CONTROL.isdisjoint(self.key):
            return "files with control characters in their names"
        if len(encoded) > _LONGEST_KEY:
            return f"files with a path longer than {_LONGEST_KEY} bytes"
        if self.depth > DEEPEST:
            return f"files in more than {DEEPEST} folders"
        return None

    def open(self, skipped: Skipped) -> int | None:
        """Open a regular file; None, and a note, when it cannot be read. Raises OSError."""
        try:
            descriptor = os.open(self.name, OPEN_FILE, dir_fd=self.folder)
        except OSError as error:
            _skip_unreadable(error, self.key, skipped)
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)  # pragma: no cover - it changed between the two looks
        return None


def walk(top: int, skipped: Skipped) -> Iterator[Entry]:
    """The regular files and links under the folder that `top` is open on, files of a folder first.

    Nothing is followed: every name is opened relative to its folder, without links and without
    waiting (a pipe would). The same tree gives the same order. An entry is valid until the next.

    Raises OSError for trouble that is not one file's own.
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
        skipped.add(f"folders below {_DEEPEST_LOOK} others, with all in them", shown(key))
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
    """The names in a folder: of its folders, or of all else."""
    with os.scandir(folder) as entries:
        names = (one.name for one in entries if one.is_dir(follow_symlinks=False) == folders)
        # Of folders fewer are held: there are as many such lists as the tree is deep.
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
    """A name as it can be told to a person: bytes that are not UTF-8 escaped, no line breaks."""
    text = os.fsencode(name[:500]).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:120]
