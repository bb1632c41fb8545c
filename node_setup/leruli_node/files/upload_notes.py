"""Sentences about files that were not uploaded."""

from __future__ import annotations

from leruli_node.files.walk import NAMES_SHOWN, shown


def not_the_jobs(foreign: list[str]) -> str:
    """Say that a bucket holds these objects, which the job did not write."""
    return (
        f"its bucket holds objects that are not of this job: {_listed_names(foreign)}. Nothing in "
        "the bucket was changed. Submit again with a new bucket that holds run.tgz alone"
    )


def of_unclear_origin(names: list[str]) -> list[str]:
    """Say which objects stay because their origin is unclear; an empty list if there are none."""
    if not names:
        return []
    return [
        "left in the bucket: objects that may be of an earlier attempt, by an older version of the "
        f"node agent: {_listed_names(names)}"
    ]


def as_lines(sentences: list[str]) -> bytes:
    """Return the sentences as lines for the end of joberr.txt."""
    return "".join(f"leruli: {sentence}\n" for sentence in sentences).encode()


def _listed_names(names: list[str]) -> str:
    more = ", and more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(shown(name) for name in names[:NAMES_SHOWN]) + more
