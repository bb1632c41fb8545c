"""What the submitters know: which jobs they were given, and what they were told of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from soak.plan import Job

FINAL = frozenset({"completed", "failed", "cancelled"})


class Ledger:
    """Shared by all threads that speak to the service as users."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ids: dict[Job, str] = {}
        # The last state that was told, and why.
        self.told: dict[str, tuple[str, str | None]] = {}
        # What must not be, in sentences.
        self.contradictions: list[str] = []
        # Own jobs that were asked to be cancelled, and of these the ones that an admin asked for.
        self.cancelled: set[str] = set()
        self.cancelled_by_admin: set[str] = set()
        self.counts: Counter[str] = Counter()

    def count(self, what: str, by: int = 1) -> None:
        """Count something for the report."""
        with self._lock:
            self.counts[what] += by

    def contradict(self, sentence: str) -> None:
        """Note what must not be."""
        with self._lock:
            self.contradictions.append(sentence)

    def accept(self, jobs: Iterable[Job], ids: Iterable[str]) -> None:
        """Note the ids of jobs; each must be the one that was answered before, if any was."""
        with self._lock:
            for job, job_id in zip(jobs, ids, strict=True):
                known = self.ids.setdefault(job, job_id)
                if known != job_id:
                    self.contradictions.append(
                        f"bucket {job.bucket} was submitted again: it was job {known}, now {job_id}"
                    )

    def tell(self, job_id: str, state: str, reason: str | None) -> None:
        """Note the state that the service told; a final one must be the last."""
        with self._lock:
            before, _ = self.told.get(job_id, ("received", None))
            if before in FINAL and state != before:
                self.contradictions.append(f"job {job_id} was {before}, and then it was {state}")
            self.told[job_id] = (state, reason)

    def ask_to_cancel(self, job_ids: Iterable[str], *, by_admin: bool = False) -> None:
        """Note that these are going to be cancelled."""
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
        """Return the state that was told last."""
        with self._lock:
            return self.told.get(job_id, ("received", None))[0]

    def ended(self) -> int:
        """Return how many were told to be over by themselves, not by a cancellation."""
        with self._lock:
            return sum(state in FINAL - {"cancelled"} for state, _ in self.told.values())
