"""Users who ask where their jobs are, and cancel some."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from soak.calls import GaveUpError, Line
from soak.ledger import FINAL, Ledger
from soak.plan import Job, Kind
from soak.stack import User

_PAUSE_S = 1.0
_BULK = 1000
# Of the rounds, how many cancel something that waits, and how many jobs at most.
_CANCELLING, _AT_ONCE = 0.25, 20
# Every so many of the cancelled jobs is cancelled by an admin.
_BY_ADMIN = 3


class Follower:
    """A thread that follows the jobs that are to be drained until told to stop."""

    def __init__(
        self, line: Line, ledger: Ledger, users: Sequence[User], admin_secret: str, seed: int
    ) -> None:
        self._line = line
        self._ledger = ledger
        self._users = users
        self._admin_secret = admin_secret
        self._chance = random.Random(f"follower {seed}")  # noqa: S311
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the round that is under way."""
        self._stop.set()
        self._thread.join()

    def cancel_rest(self) -> None:
        """Let every user cancel all that is left by one filter, until nothing is."""
        for user in self._users:
            body = {
                "secret": user.secret,
                "filter": {"states": ["received", "submitted", "running"]},
            }
            while True:
                answer = self._line.post("bulk/task-cancel", body)
                over = answer["cancelled"] + answer["stopping"]
                self._ledger.count("jobs cancelled by a filter", over)
                if over == 0:
                    break

    def look(self, jobs: Sequence[tuple[Job, str]]) -> None:
        """Ask for the states of jobs; the ledger compares them with what it was told before."""
        for start in range(0, len(jobs), _BULK):
            some = [job_id for _, job_id in jobs[start : start + _BULK]]
            body = {"secret": self._admin_secret, "jobids": some}
            for job_id, entry in zip(some, self._line.post("bulk/task-status", body), strict=True):
                if entry["status"] != 200:
                    self._ledger.contradict(f"job {job_id} is not known any more: {entry['data']}")
                    continue
                self._ledger.tell(job_id, entry["data"]["status"], entry["data"]["reason"])

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            try:
                self._round()
            except GaveUpError as error:
                if not self._stop.is_set():
                    self._ledger.contradict(str(error))

    def _round(self) -> None:
        known = self._ledger.known()
        open_jobs = [
            (job, job_id)
            for job, job_id in known.items()
            if job.is_drained and self._ledger.state(job_id) not in FINAL
        ]
        self.look(open_jobs)
        for job, job_id in open_jobs:
            if job.kind is Kind.LONG and self._ledger.state(job_id) == "running":
                self._cancel_one(job, job_id)
        if self._chance.random() < _CANCELLING:
            self._cancel_waiting(known)

    def _cancel_one(self, job: Job, job_id: str) -> None:
        by_admin = int(job_id[-1], 16) % _BY_ADMIN == 0
        self._ledger.ask_to_cancel([job_id], by_admin=by_admin)
        secret = self._admin_secret if by_admin else self._users[job.user].secret
        answer = self._line.post("task-cancel", {"secret": secret, "jobid": job_id})
        self._ledger.tell(job_id, answer["status"], answer["reason"])
        self._ledger.count("running jobs asked to be cancelled")

    def _cancel_waiting(self, known: dict[Job, str]) -> None:
        """Cancel a few of a user's jobs of which the last word was that they wait."""
        user = self._chance.randrange(len(self._users))
        waiting = [
            job_id
            for job, job_id in known.items()
            if job.user == user
            and job_id not in self._ledger.cancelled
            # Few of those that are to be drained, several of the crowd.
            and (not job.is_drained or job.number % 10 == 0)
            and self._ledger.state(job_id) == "received"
        ]
        if not waiting:
            return
        count = min(self._chance.randint(1, _AT_ONCE), len(waiting))
        chosen = self._chance.sample(waiting, count)
        self._ledger.ask_to_cancel(chosen)
        body = {"secret": self._users[user].secret, "jobids": chosen}
        for job_id, entry in zip(chosen, self._line.post("bulk/task-cancel", body), strict=True):
            self._ledger.tell(job_id, entry["data"]["status"], entry["data"]["reason"])
        self._ledger.count("waiting jobs asked to be cancelled", count)
