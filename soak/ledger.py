"""Answers of the service to its users: ids of jobs, and the states that they saw."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from soak.plan import Job

FINAL = frozenset({"completed", "failed", "cancelled"})


class Ledger:
    """Shared by all threads that call the service as users."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ids: dict[Job, str] = {}
        # The last state of each job in an answer, with its reason.
        self.observed: dict[str, tuple[str, str | None]] = {}
        # Sentences about contradictory answers.
        self.contradictions: list[str] = []
        # Jobs for which a cancellation was asked, and those of them for which an admin asked.
        self.cancelled: set[str] = set()
        self.cancelled_by_admin: set[str] = set()
        self.counts: Counter[str] = Counter()

    def count(self, what: str, by: int = 1) -> None:
        """Count something for the report."""
        with self._lock:
            self.counts[what] += by

    def contradict(self, sentence: str) -> None:
        """Record a sentence about a contradictory answer."""
        with self._lock:
            self.contradictions.append(sentence)

    def accept(self, jobs: Iterable[Job], ids: Iterable[str]) -> None:
        """Record the ids of jobs; an id must be the same as in an earlier answer."""
        with self._lock:
            for job, job_id in zip(jobs, ids, strict=True):
                known = self.ids.setdefault(job, job_id)
                if known != job_id:
                    self.contradictions.append(
                        f"bucket {job.bucket} was submitted again: it was job {known}, now {job_id}"
                    )

    def observe(self, job_id: str, state: str, reason: str | None) -> None:
        """Record the state in an answer; a final state must be the last."""
        with self._lock:
            before, _ = self.observed.get(job_id, ("received", None))
            if before in FINAL and state != before:
                self.contradictions.append(f"job {job_id} was {before}, and then it was {state}")
            self.observed[job_id] = (state, reason)

    def ask_to_cancel(self, job_ids: Iterable[str], *, by_admin: bool = False) -> None:
        """Record that a cancellation of these jobs will be asked for."""
        with self._lock:
            job_ids = set(job_ids)
            self.cancelled |= job_ids
            if by_admin:
                self.cancelled_by_admin |= job_ids

    def known(self) -> dict[Job, str]:
        """Return all jobs with their ids."""
        with self._lock:
            return dict(self.ids)

    def state(self, job_id: str) -> str:
        """Return the state in the last answer about a job."""
        with self._lock:
            return self.observed.get(job_id, ("received", None))[0]

    def ended(self) -> int:
        """Return the number of jobs that ended by themselves, not by a cancellation."""
        with self._lock:
            return sum(state in FINAL - {"cancelled"} for state, _ in self.observed.values())
