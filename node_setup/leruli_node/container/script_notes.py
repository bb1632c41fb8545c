"""Reads the notes of main.sh. They are only hints: the user's program can write them too."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 4096
_MINUTES = re.compile(r"(\d{1,9})m(\d{1,9}(?:\.\d{1,9})?)s")

_NUMBER = re.compile(r"\d{1,18}\n?\Z", re.ASCII)


@dataclass(frozen=True)
class ScriptNotes:
    """The notes of main.sh.

    `cpu_seconds` is of the container's cgroup, or of run.sh and all child processes that it waited
    for. `peak_memory_mb` is the peak of the cgroup when run.sh had ended, and `cache_mb` the page
    cache in it then.
    """

    started: bool = False
    refused: bool = False
    terminated: bool = False
    exit_code: int | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: int | None = None
    cache_mb: int | None = None


def read_notes(control: Path) -> ScriptNotes:
    """Read the control folder without following links, opening devices or reading large files."""
    try:
        folder = os.open(control, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ScriptNotes()
    try:
        code = _read(folder, "exitcode")
        return ScriptNotes(
            started=_exists(folder, "started"),
            refused=_exists(folder, "refused"),
            terminated=_exists(folder, "terminated"),
            exit_code=int(code) if code is not None and re.match(r"\d{1,3}\n?\Z", code) else None,
            cpu_seconds=_cpu_seconds(folder),
            peak_memory_mb=None if (peak := _number(folder, "peakbytes")) is None else _mb(peak),
            cache_mb=None if (cache := _number(folder, "cachebytes")) is None else cache // 2**20,
        )
    finally:
        os.close(folder)


def parse_times(text: str) -> float | None:
    """Return the CPU seconds of the children in the output of the shell's `times`, or None."""
    lines = text.splitlines()
    found = _MINUTES.findall(lines[1]) if len(lines) >= 2 else []
    if len(found) != 2:
        return None
    return sum(int(minutes) * 60 + float(seconds) for minutes, seconds in found)


def _cpu_seconds(folder: int) -> float | None:
    waited_for = parse_times(_read(folder, "times") or "")
    counted = _number(folder, "cpumicroseconds")
    if counted is None:
        return waited_for
    return max(counted / 1e6, waited_for or 0.0)


def _mb(size: int) -> int:
    return -(-size // 2**20)


def _number(folder: int, name: str) -> int | None:
    text = _read(folder, name)
    return int(text) if text and _NUMBER.match(text) else None


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _read(folder: int, name: str) -> str | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.read(descriptor, _LONGEST).decode("ascii", "replace")
    finally:
        os.close(descriptor)
