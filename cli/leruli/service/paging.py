"""Listings of the service, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from leruli.errors import UnknownCallError
from leruli.service.connection import Connection

# The largest page that the service gives, in entries.
_LARGEST_PAGE = 1000


class Page(NamedTuple):
    """Some entries of a listing, and where the next page begins."""

    entries: list[dict[str, Any]]
    next: Any  #: `after` of the next page; None on the last one


def entries_of(connection: Connection, answer: Any, name: str) -> list[dict[str, Any]]:
    """Return the list of that name in an answer; raises ServiceError."""
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise connection.nonsense()
    return found


def check_batches(entries: Iterable[Mapping[str, Any]], wanted: Mapping[str, Any]) -> None:
    """Raise UnknownCallError if `wanted` names a batch and the service ignored that.

    A service that knows the field names the batch in each entry.
    """
    names_one = wanted.get("batchid") is not None or wanted.get("batch") is not None
    if names_one and not all("batchid" in entry for entry in entries):
        raise UnknownCallError(
            "The queue is of an older version than this client and cannot choose by batch."
        )


def pages_of_batch(found: Iterable[Page], wanted: Mapping[str, Any]) -> Iterator[Page]:
    """Yield pages, each as `check_batches` has checked it."""
    for page in found:
        check_batches(page.entries, wanted)
        yield page


def pages(
    connection: Connection,
    path: str,
    body: Mapping[str, Any],
    name: str,
    limit: int | None,
    after: Any,
) -> Iterator[Page]:
    """Yield the pages of a listing, up to `limit` entries (None: all)."""
    left = limit
    while True:
        size = _LARGEST_PAGE if left is None else min(left, _LARGEST_PAGE)
        answer = connection.call(path, {**body, "limit": size, "after": after})
        page = Page(entries_of(connection, answer, name), answer.get("next"))
        yield page
        if left is not None:
            left -= len(page.entries)
        if page.next is None or (left is not None and left <= 0):
            return
        after = page.next
