"""Sentences about what was not uploaded."""

from __future__ import annotations

from leruli_node.files.walk import NAMES_SHOWN, shown


def not_the_jobs(foreign: list[str]) -> str:
    """Say of a bucket that it holds these objects, of which the job wrote none."""
    return (
        f"its bucket holds objects that are not of this job: {_listed_names(foreign)}. Nothing in "
        "the bucket was changed. Submit again with a new bucket that holds run.tgz alone"
    )


def of_unclear_origin(names: list[str]) -> list[str]:
    """Say which objects stay because nobody knows who wrote them; nothing where there are none."""
    if not names:
        return []
    return [
        "left in the bucket: objects that may be of an earlier attempt, by an older version of the "
        f"node agent: {_listed_names(names)}"
    ]


def as_lines(sentences: list[str]) -> bytes:
    """Sentences as they stand at the end of joberr.txt."""
    return "".join(f"leruli: {sentence}\n" for sentence in sentences).encode()


def _listed_names(names: list[str]) -> str:
    more = ", and more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(shown(name) for name in names[:NAMES_SHOWN]) + more
