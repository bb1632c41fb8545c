"""The names of live objects in a job's bucket (docs/developers/live-output.md).

`.leruli/live/<attempt>/<out or err>/<offset>`: the object begins at this offset of the log.
"""

from __future__ import annotations

import re

from leruli_node.model import AttemptId

#: All live objects of all attempts. No file of a job becomes an object with such a name.
LIVE = ".leruli/live/"
STREAMS = {"out": "joblog.txt", "err": "joberr.txt"}
_OFFSET_DIGITS = 15
_REST = re.compile(r"(out|err)/(\d{15})", re.ASCII)


def is_live(name: str) -> bool:
    """Return whether a name is reserved for live objects."""
    return f"{name}/".startswith(LIVE)


def live_prefix(attempt: AttemptId) -> str:
    """Return the beginning of the names of an attempt's live objects."""
    return f"{LIVE}{attempt.attempt}/"


def live_name(attempt: AttemptId, stream: str, offset: int) -> str:
    """Return the name of a live object."""
    return f"{live_prefix(attempt)}{stream}/{offset:0{_OFFSET_DIGITS}}"


def parse_live_name(attempt: AttemptId, name: str) -> tuple[str, int] | None:
    """Return stream and offset of an attempt's live object, None for another name."""
    prefix = live_prefix(attempt)
    found = _REST.fullmatch(name[len(prefix) :]) if name.startswith(prefix) else None
    return (found[1], int(found[2])) if found else None
