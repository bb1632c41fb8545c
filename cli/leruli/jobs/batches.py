"""Finding the batch that a person names: by id, its first digits, its name, or by the folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from leruli.errors import NotFoundError, RefusedError
from leruli.folder.journals import newest_batch_near
from leruli.times import age
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.service.batches import BatchClient

#: Digits of a short id: the first ones, as the client makes the id at random.
SHORT_ID = 8

_FULL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MOST_CANDIDATES = 10


def short_batch_id(batchid: str) -> str:
    """Return the id that tables on a terminal show."""
    return batchid[:SHORT_ID]


def resolve_batch(service: BatchClient, text: str | None, directory: str) -> str:
    """Return the id of the batch that `text` names; without it that of the folder or those above.

    `text` is an id, at least four of its first digits, or the name of a batch. Raises
    NotFoundError when nothing fits, RefusedError when several batches do.
    """
    if text is None:
        found = newest_batch_near(directory)
        if found is None:
            raise NotFoundError(
                "No batch was given, and there is none in this folder or in those around it. "
                "`leruli batch-list` shows your batches."
            )
        return found
    if _FULL_ID.fullmatch(text):
        return text.lower()
    batches = service.find(text, _MOST_CANDIDATES)
    if not batches:
        raise NotFoundError(
            f"{text!r} is not a batch of yours: neither its id, nor at least four of the first "
            "digits of its id, nor its name. `leruli batch-list` shows your batches."
        )
    if len(batches) > 1:
        raise RefusedError(_ambiguous(text, batches))
    return str(batches[0]["batchid"])


def _ambiguous(text: str, batches: list[dict[str, Any]]) -> str:
    lines = [
        f"    {batch['batchid']}  {counted(batch.get('jobs', 0), 'job')}, submitted "
        f"{age(batch.get('submittedat'))} ago, {batch.get('name', '')}"
        for batch in batches
    ]
    if len(batches) == _MOST_CANDIDATES:
        lines.append("    and maybe more")
    return (
        f"{text!r} fits several of your batches. Nothing was done. Give the full id of the one "
        "that you mean:\n" + "\n".join(lines)
    )
