"""Users who poll the states of their jobs, and cancel some."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from soak.calls import CallFailedError, Line
from soak.ledger import FINAL, Ledger
from soak.plan import Job, Kind
from soak.stack import User

_PAUSE_S = 1.0
_BULK = 1000
# Jobs that are polled in each round. Jobs begin in about the order of their submits, so the oldest
# ones change. On two cores the service took 2 s for 3,000 jobs, and slots waited for it.
_POLLED = 300
# Every so many rounds all jobs are polled.
_ALL_EVERY = 30
# Share of rounds that cancel queued jobs, and the largest number of jobs then.
_CANCELLING, _AT_ONCE = 0.25, 20
# An admin cancels one in so many of the cancelled jobs.
_BY_ADMIN = 3


class Follower:
    """A thread that polls the jobs to be drained until `stop`."""

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
        self._rounds = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current round."""
        self._stop.set()
        self._thread.join()

    def cancel_rest(self) -> None:
        """Have every user cancel all unfinished jobs by one filter, until none is left."""
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

    def poll(self, jobs: Sequence[tuple[Job, str]]) -> None:
        """Ask for the states of jobs; the ledger compares them with earlier answers."""
        for start in range(0, len(jobs), _BULK):
            some = [job_id for _, job_id in jobs[start : start + _BULK]]
            body = {"secret": self._admin_secret, "jobids": some}
            for job_id, entry in zip(some, self._line.post("bulk/task-status", body), strict=True):
                if entry["status"] != 200:
                    self._ledger.contradict(
                        f"the service no longer knows job {job_id}: {entry['data']}"
                    )
                    continue
                self._ledger.observe(job_id, entry["data"]["status"], entry["data"]["reason"])

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            try:
                self._round()
            except CallFailedError as error:
                if not self._stop.is_set():
                    self._ledger.contradict(str(error))

    def _round(self) -> None:
        known = self._ledger.known()
        open_jobs = [
            (job, job_id)
            for job, job_id in known.items()
            if job.is_drained and self._ledger.state(job_id) not in FINAL
        ]
        self._rounds += 1
        if self._rounds % _ALL_EVERY:
            open_jobs = open_jobs[:_POLLED]
        self.poll(open_jobs)
        for job, job_id in open_jobs:
            if job.kind is Kind.LONG and self._ledger.state(job_id) == "running":
                self._cancel_one(job, job_id)
        if self._chance.random() < _CANCELLING:
            self._cancel_queued(known)

    def _cancel_one(self, job: Job, job_id: str) -> None:
        by_admin = int(job_id[-1], 16) % _BY_ADMIN == 0
        self._ledger.ask_to_cancel([job_id], by_admin=by_admin)
        secret = self._admin_secret if by_admin else self._users[job.user].secret
        answer = self._line.post("task-cancel", {"secret": secret, "jobid": job_id})
        self._ledger.observe(job_id, answer["status"], answer["reason"])
        self._ledger.count("running jobs asked to be cancelled")

    def _cancel_queued(self, known: dict[Job, str]) -> None:
        """Cancel a few of a user's jobs that were queued in the last answer."""
        user = self._chance.randrange(len(self._users))
        queued = [
            job_id
            for job, job_id in known.items()
            if job.user == user
            and job_id not in self._ledger.cancelled
            # Few of the jobs to be drained, several of the crowd.
            and (not job.is_drained or job.number % 10 == 0)
            and self._ledger.state(job_id) == "received"
        ]
        if not queued:
            return
        count = min(self._chance.randint(1, _AT_ONCE), len(queued))
        chosen = self._chance.sample(queued, count)
        self._ledger.ask_to_cancel(chosen)
        body = {"secret": self._users[user].secret, "jobids": chosen}
        for job_id, entry in zip(chosen, self._line.post("bulk/task-cancel", body), strict=True):
            self._ledger.observe(job_id, entry["data"]["status"], entry["data"]["reason"])
        self._ledger.count("queued jobs asked to be cancelled", count)
