"""Users who submit several posts at once, and repeat each until the service answers."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from minio.error import S3Error

from soak.calls import CallFailedError, Line
from soak.ledger import Ledger
from soak.plan import INPUT, Job, Post
from soak.stack import STORE_ERRORS, SoakStack, User

_THREADS = 4
_STORE_RETRY_FOR_S = 180.0


class Submitters:
    """Threads that make the posts of a plan."""

    def __init__(
        self, stack: SoakStack, line: Line, ledger: Ledger, users: Sequence[User], plan: list[Post]
    ) -> None:
        self._store = stack.store()
        self._line = line
        self._ledger = ledger
        self._users = users
        self._posts: queue.SimpleQueue[Post] = queue.SimpleQueue()
        for post in plan:
            self._posts.put(post)
        self._threads = [
            threading.Thread(target=self._run, name=f"submitter-{n}", daemon=True)
            for n in range(_THREADS)
        ]
        self._stop = threading.Event()
        self.began = 0.0
        # Seconds until the answer of the last post; None before it.
        self.seconds: float | None = None

    def start(self) -> None:
        """Begin."""
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def are_done(self) -> bool:
        """Whether every post was answered or has failed."""
        if any(thread.is_alive() for thread in self._threads):
            return False
        if self.seconds is None:
            self.seconds = time.monotonic() - self.began
        return True

    def stop(self) -> None:
        """Stop after the current posts."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.seconds is None:
            self.seconds = time.monotonic() - self.began

    def submit_again(self, jobs: Sequence[Job]) -> None:
        """Submit accepted jobs again; the ledger compares the ids."""
        for user in range(len(self._users)):
            own = [job for job in jobs if job.user == user]
            if own:
                self._submit(own)
                self._ledger.count("jobs submitted twice or more", len(own))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                post = self._posts.get_nowait()
            except queue.Empty:
                return
            try:
                self._make(post)
            except (CallFailedError, *STORE_ERRORS) as error:
                self._ledger.contradict(f"a submission failed: {error}")

    def _make(self, post: Post) -> None:
        time.sleep(post.pause_s)
        for job in post.jobs:
            if job.is_drained:
                self._store_input(job)
        if post.hurried:
            self._line.hurry("bulk/task-submit", self._body(post.jobs))
        self._submit(post.jobs)
        if post.repeated:
            self.submit_again(post.jobs)

    def _submit(self, jobs: Sequence[Job]) -> None:
        answer = self._line.post("bulk/task-submit", self._body(jobs))
        refused = [entry for entry in answer if entry["status"] != 200]
        if refused:
            self._ledger.contradict(f"jobs were refused, one of them with {refused[0]}")
            return
        self._ledger.accept(jobs, [entry["data"] for entry in answer])

    def _body(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        return [
            {
                "secret": self._users[job.user].secret,
                "bucketid": job.bucket,
                "name": job.kind.value,
                "codeversion": "leruli-test:1",
                "cores": 1,
                "memorymb": 64,
                "timelimit": 3600,
                "priority": job.priority,
                "sharecontainer": job.shares,
            }
            for job in jobs
        ]

    def _store_input(self, job: Job) -> None:
        """Make the bucket and upload the input; repeat this while the object store is away."""
        deadline = time.monotonic() + _STORE_RETRY_FOR_S
        while True:
            try:
                self._make_bucket(job.bucket)
                content = job.input()
                self._store.put_object(job.bucket, INPUT, io.BytesIO(content), len(content))
                return
            except STORE_ERRORS:
                self._ledger.count("inputs stored again")
                if time.monotonic() > deadline or self._line.stop.wait(0.3):
                    raise

    def _make_bucket(self, bucket: str) -> None:
        try:
            self._store.make_bucket(bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
