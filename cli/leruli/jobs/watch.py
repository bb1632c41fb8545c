"""The jobs of many folders as one batch that is asked about again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from leruli.errors import LeruliError
from leruli.service.queue_client import BULK_LIMIT, JobState, QueueClient
from leruli.service.states import STATES

# The service answers as many of a batch.
_FAILURES = 5


class WatchedJobs:
    """Jobs by the names of their folders; each question asks only for jobs that are not over."""

    def __init__(self, service: QueueClient, jobs: Mapping[str, str]) -> None:
        self._service = service
        self._names = {jobid: name for name, jobid in jobs.items()}
        self._states: dict[str, str] = {}
        self._failures: list[dict[str, Any]] = []
        #: Jobs whose state cannot be read, by name, and why.
        self.problems: dict[str, str] = {}
        self._began: float | None = None
        self._over_before = 0

    def ask(self) -> dict[str, Any]:
        """Return the jobs in the form of a batch: docs/admins/api.md, batch-status.

        The rate is that since the first call. Raises ServiceError.
        """
        is_first = self._began is None
        pending = [jobid for jobid in self._names if not self._is_over(jobid)]
        for start in range(0, len(pending), BULK_LIMIT):
            some = pending[start : start + BULK_LIMIT]
            for jobid, state in zip(some, self._service.statuses(some)):
                self._note(jobid, state, is_first=is_first)
        counts = Counter(self._states.values())
        left = sum(counts[state] for state in ("received", "submitted", "running"))
        ended = counts["completed"] + counts["failed"]
        if self._began is None:
            self._began, self._over_before = time.monotonic(), ended
        seconds = time.monotonic() - self._began
        rate = (ended - self._over_before) / seconds if seconds > 0 else 0.0
        end = datetime.now(timezone.utc) + timedelta(seconds=left / rate) if rate and left else None
        return {
            "jobs": len(self._states),
            "counts": {state: counts[state] for state in STATES},
            "rate": rate or None,
            "expectedend": end and end.isoformat(),
            "failures": self._failures[: -_FAILURES - 1 : -1],
        }

    def _is_over(self, jobid: str) -> bool:
        name = self._names[jobid]
        state = self._states.get(jobid)
        return name in self.problems or (state is not None and JobState(state, None).is_final)

    def _note(self, jobid: str, state: JobState | LeruliError, *, is_first: bool) -> None:
        name = self._names[jobid]
        if isinstance(state, LeruliError):
            self.problems[name] = str(state)
            self._states.pop(jobid, None)
            return
        self._states[jobid] = state.status
        if state.status == "failed":
            ended = None if is_first else datetime.now(timezone.utc).isoformat()
            failure = {"name": name, "jobid": jobid, "reason": state.reason, "endedat": ended}
            self._failures.append(failure)
