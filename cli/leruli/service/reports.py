"""The call about what the caller's jobs used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from leruli.service.caller import Caller
from leruli.service.paging import entries_of, pages
from leruli.service.queue_client import BULK_LIMIT

_NUMBERS = ("cores", "memorymb", "timelimit", "attempts")


class ReportClient(Caller):
    """Calls task-report with an API secret; safe for several threads.

    All calls raise UnknownCallError for a service that is too old for them.
    """

    def of_jobs(self, jobids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield those of these jobs that are the caller's own and have ended, in their order."""
        for start in range(0, len(jobids), BULK_LIMIT):
            body = {"secret": self._secret, "jobids": jobids[start : start + BULK_LIMIT]}
            answer = self._connection.call("task-report", body)
            for job in entries_of(self._connection, answer, "jobs"):
                yield self._check(job)

    def of_batch(self, batchid: str) -> Iterator[dict[str, Any]]:
        """Yield the jobs of a batch that have ended. Raises NotFoundError for an unknown batch."""
        body = {"secret": self._secret, "batchid": batchid}
        for page in pages(self._connection, "task-report", body, "jobs", None, None):
            for job in page.entries:
                yield self._check(job)

    def _check(self, job: dict[str, Any]) -> dict[str, Any]:
        used = job.get("used")
        if (
            not isinstance(used, dict)
            or not all(_is_number(value) or value is None for value in used.values())
            or not all(_is_number(job.get(name)) for name in _NUMBERS)
            or not isinstance(job.get("jobid"), str)
        ):
            raise self._connection.nonsense()
        return job


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
