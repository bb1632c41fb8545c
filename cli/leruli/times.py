"""Times as people write them, and as the service does."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

_AGO = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str) -> datetime:
    """Return the moment of an ISO 8601 date or time; raises ValueError.

    Without a time zone it is local time. A date means the beginning of the day.
    """
    # Before Python 3.11 fromisoformat knows no Z.
    if text.endswith(("Z", "z")):
        text = text[:-1] + "+00:00"
    return datetime.fromisoformat(text).astimezone()


def moment_utc(text: str) -> str:
    """Return the moment of a text for `parse_moment`, or of an age such as 90m, in ISO 8601 UTC.

    Raises ValueError.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            moment = datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = parse_moment(text.strip()).astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"{text} is too far away") from None
    return moment.isoformat(timespec="microseconds")


def age(moment: Any) -> str:
    """Return the age of a time of the service, such as "3 min"; "" if it is invalid."""
    try:
        then = parse_moment(moment)
    except (AttributeError, ValueError):
        return ""
    return duration((datetime.now(timezone.utc) - then).total_seconds())


def duration(seconds: float) -> str:
    """Return seconds in one unit for a person: 50 s, 3 min, 2 h, 5 d."""
    whole = max(0, int(seconds))
    for unit, size, most in (("s", 1, 60), ("min", 60, 60), ("h", 3600, 48)):
        if whole < size * most:
            return f"{whole // size} {unit}"
    return f"{whole // 86400} d"
