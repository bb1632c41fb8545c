"""Check the arguments of the Python functions, and warn their caller."""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar, Union

from leruli.errors import LeruliWarning, RefusedError
from leruli.jobs.submit import Command, JobSpec, join_command
from leruli.redaction import redact
from leruli.service.states import STATES
from leruli.times import moment_utc
from leruli.wording import did_you_mean

#: A folder.
Folder = Union[str, "os.PathLike[str]"]

#: A point in time, or how long ago it was; see `as_utc`.
Moment = Union[datetime, date, timedelta, str]

#: The form of --strict in a Python program.
STRICT = "strict=True"

_PACKAGE = str(Path(__file__).resolve().parents[1])

_Item = TypeVar("_Item")


def warn(text: str) -> None:
    """Warn at the line of the program that called into this package."""
    level, frame = 2, sys._getframe().f_back
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level += 1
        frame = frame.f_back
    warnings.warn(redact(text), LeruliWarning, stacklevel=level)


def _wrong(name: str, wanted: str, value: object) -> TypeError:
    shown = redact(repr(value))
    return TypeError(f"{name} has to be {wanted}, not {shown[:80]}.")


def as_folder(name: str, value: Folder) -> str:
    """Return the path of a folder; raises TypeError."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise _wrong(name, "the path of a folder", value)
    return path


def as_folders(name: str, values: Iterable[Folder]) -> list[str]:
    """Return the paths of folders, each once; raises TypeError."""
    return list(dict.fromkeys(as_folder(f"each of {name}", one) for one in several(name, values)))


def several(name: str, values: Iterable[_Item]) -> Iterable[_Item]:
    """Return `values`. Raises TypeError, also for a text: Python iterates over its letters."""
    if isinstance(values, (str, bytes, os.PathLike)) or not isinstance(values, Iterable):
        raise _wrong(name, "a list", values)
    return values


def as_text(name: str, value: str) -> str:
    """Return a text that is not empty; raises TypeError and RefusedError."""
    if not isinstance(value, str):
        raise _wrong(name, "a text", value)
    if not value:
        raise RefusedError(f"{name} is empty.")
    return value


def as_whole(name: str, value: int) -> int:
    """Return a whole number, which may be of NumPy. Raises TypeError."""
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise _wrong(name, "a whole number", value)


def as_flag(name: str, value: bool) -> bool:
    """Return a flag. Raises TypeError: NumPy's booleans are no JSON."""
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)
    return value


def as_line(command: Command) -> str:
    """Return a command as one line of bash; raises TypeError."""
    words: Any = command
    if not isinstance(words, Sequence) or not all(isinstance(one, str) for one in words):
        raise _wrong("command", "a text or a list of texts", command)
    return join_command(command)


def as_ends(ends: str | Iterable[str]) -> str:
    """Return the ends of a retry rule as one text; raises TypeError."""
    listed = [ends] if isinstance(ends, str) else several("retry_on", ends)
    return ",".join(as_text("each of retry_on", one) for one in listed)


def as_fields(**arguments: Any) -> dict[str, Any]:
    """Return the arguments of a submission that are not None, as fields of JobSpec.

    Raises TypeError.
    """
    convert: dict[str, Callable[[Any], Any]] = {
        name: lambda value, name=name: as_whole(name, value)  # type: ignore[misc]
        for name in (
            *("cores", "memorymb", "timeseconds", "diskmb", "shmmb", "priority"),
            *("retry", "most_memorymb", "most_timeseconds"),
        )
    }
    convert["retry_on"] = as_ends
    convert["command"] = as_line
    convert["share_container"] = lambda value: as_flag("share_container", value)
    fields = {
        name: convert[name](value) if name in convert else as_text(name, value)
        for name, value in arguments.items()
        if value is not None
    }
    for name, field in (("timeseconds", "timelimit"), ("most_timeseconds", "most_timelimit")):
        if name in fields:
            fields[field] = fields.pop(name)
    return fields


def as_spec(**arguments: Any) -> JobSpec:
    """Return the arguments of a submission as a JobSpec. Raises TypeError."""
    for name in ("code", "version", "command", "cores", "memorymb", "timeseconds", "priority"):
        if arguments[name] is None:
            raise _wrong(name, "given", None)
    return JobSpec(**as_fields(**arguments))


def as_states(states: str | Iterable[str] | None) -> list[str] | None:
    """Return states of jobs in the form of the service. Raises TypeError and RefusedError."""
    if states is None:
        return None
    chosen = [states] if isinstance(states, str) else list(several("states", states))
    for one in chosen:
        if as_text("each of states", one) not in STATES:
            raise RefusedError(
                f"{one!r} is not a state.{did_you_mean(one, STATES)} The states are "
                f"{', '.join(STATES)}."
            )
    return chosen


def as_utc(name: str, value: Moment | None) -> str | None:
    """Return a moment in the form of the service: ISO 8601 in UTC.

    A timedelta means that long before now. A text has the form of the command line, such as
    "2026-11-24" or "7d". Without a time zone it is local time. Raises TypeError and RefusedError.
    """
    moment: Any = value
    if moment is None:
        return None
    if isinstance(moment, str):
        try:
            return moment_utc(moment)
        except ValueError:
            raise RefusedError(
                f"{name}: {moment!r} is not a time. Write a date (2026-11-24), a time "
                "(2026-11-24T08:30), or an age in minutes, hours, days or weeks (90m, 12h, 7d, 2w)."
            ) from None
    if isinstance(moment, timedelta):
        moment = datetime.now(timezone.utc) - moment
    elif isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001  # local, as below
    if not isinstance(moment, datetime):
        raise _wrong(name, "a datetime, a date, a timedelta or a text", moment)
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def as_limit(limit: int | None) -> int | None:
    """Return the largest number of entries, None for all. Raises TypeError and RefusedError."""
    if limit is not None and as_whole("limit", limit) < 1:
        raise RefusedError(f"limit must be at least 1, not {limit}.")
    return limit
