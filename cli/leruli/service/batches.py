"""The calls about the caller's batches: list them, their status, cancel one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leruli.service.caller import Caller
from leruli.service.paging import Page, entries_of, pages

_COUNTS = ("received", "submitted", "running", "completed", "failed", "cancelled")


class BatchClient(Caller):
    """Calls the service about batches with an API secret; safe for several threads.

    All calls raise UnknownCallError for a service that is too old for them.
    """

    def batches(self, limit: int | None = None, after: str | None = None) -> Iterator[Page]:
        """Yield the caller's batches, the newest first, up to `limit` (None: all)."""
        body = {"secret": self._secret}
        for page in pages(self._connection, "batch-list", body, "batches", limit, after):
            for batch in page.entries:
                self._check(batch)
            yield page

    def find(self, reference: str, limit: int) -> list[dict[str, Any]]:
        """Return the newest batches with this name, or whose id begins with `reference`."""
        body = {"secret": self._secret, "reference": reference, "limit": limit}
        answer = self._connection.call("batch-list", body)
        return [self._check(batch) for batch in entries_of(self._connection, answer, "batches")]

    def status(self, batchid: str) -> dict[str, Any]:
        """Return all that the service knows about a batch: docs/admins/api.md, batch-status.

        Raises NotFoundError for an unknown batch and for others' batches.
        """
        answer = self._connection.call("batch-status", self._about(batchid))
        entries_of(self._connection, answer, "failures")
        return self._check(answer)

    def cancel(self, batchid: str) -> Iterator[tuple[int, int]]:
        """Cancel the jobs of a batch, call by call.

        Yields how many jobs each call cancelled, and how many are being stopped.
        """
        while True:
            answer = self._connection.call("batch-cancel", self._about(batchid))
            numbers = answer if isinstance(answer, dict) else {}
            cancelled, stopping = numbers.get("cancelled"), numbers.get("stopping")
            if not isinstance(cancelled, int) or not isinstance(stopping, int):
                raise self._connection.nonsense()
            if not cancelled and not stopping:
                return
            yield cancelled, stopping

    def _about(self, batchid: str) -> dict[str, str]:
        return {"secret": self._secret, "batchid": batchid}

    def _check(self, batch: Any) -> dict[str, Any]:
        counts = batch.get("counts") if isinstance(batch, dict) else None
        if (
            not isinstance(counts, dict)
            or not all(isinstance(counts.get(state), int) for state in _COUNTS)
            or not isinstance(batch.get("batchid"), str)
        ):
            raise self._connection.nonsense()
        return dict(batch)
