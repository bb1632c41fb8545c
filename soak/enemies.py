"""Hostile users: each submits the jobs of enemy_jobs.py without end, and deletes their buckets."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from soak.calls import CallFailedError, Line
from soak.canaries import Canaries
from soak.enemy_jobs import Recipe, memory_mb, recipes
from soak.ledger import FINAL, Ledger
from soak.plan import IMAGE, INPUT
from soak.stack import STORE_ERRORS, SoakStack, User

_PAUSE_S = 1.0
# Unfinished jobs of each hostile user.
_OPEN = 12
_TIME_LIMIT_S = 20


class Enemy:
    """A hostile user: a thread that submits until `stop`."""

    def __init__(
        self,
        stack: SoakStack,
        line: Line,
        ledger: Ledger,
        user: User,
        canaries: Canaries,
        seed: int,
    ) -> None:
        self.user = user
        self._store = stack.store()
        self._line = line
        self._ledger = ledger
        self._canaries = canaries
        self._chance = random.Random(f"{user.name} {seed}")  # noqa: S311
        self._kinds = recipes()
        self._shares = [one.share for one in self._kinds]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=user.name, daemon=True)
        self._number = 0
        # By job id: the bucket, or None if it is not the enemy's own.
        self._open: dict[str, str | None] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop submitting, and cancel all jobs that are left."""
        self._stop.set()
        self._thread.join()
        states = ["received", "submitted", "running"]
        body = {"secret": self.user.secret, "filter": {"states": states}}
        while True:
            answer = self._line.post("bulk/task-cancel", body)
            if answer["cancelled"] + answer["stopping"] == 0:
                return

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            # An enemy ignores its own failures.
            with suppress(CallFailedError, *STORE_ERRORS):
                self._poll()
                while len(self._open) < _OPEN and not self._stop.is_set():
                    [recipe] = self._chance.choices(self._kinds, self._shares)
                    self._submit(recipe)

    def _submit(self, recipe: Recipe) -> None:
        self._number += 1
        bucket = str(UUID(int=self._chance.getrandbits(128), version=4))
        own = None
        if recipe.names_foreign_bucket:
            bucket = self._chance.choice(self._canaries.buckets)
        elif recipe.archive is not None:
            content = recipe.archive()
            with suppress(S3Error):
                self._store.make_bucket(bucket)
            self._store.put_object(bucket, INPUT, io.BytesIO(content), len(content))
            own = bucket
        body = {
            "secret": self.user.secret,
            "bucketid": bucket,
            "name": recipe.name[:40],
            "codeversion": IMAGE,
            "cores": 1,
            "memorymb": memory_mb(recipe, self._number),
            "timelimit": _TIME_LIMIT_S,
            "priority": 1000,
        }
        [answer] = self._line.post("bulk/task-submit", [body])
        self._ledger.count(
            f"hostile: {recipe.name}" if answer["status"] == 200 else "hostile: refused"
        )
        if answer["status"] == 200:
            self._open[answer["data"]] = own

    def _poll(self) -> None:
        """Drop the jobs that have ended, and delete their buckets."""
        ids = list(self._open)
        if not ids:
            return
        body = {"secret": self.user.secret, "jobids": ids}
        answers: Sequence[dict[str, Any]] = self._line.post("bulk/task-status", body)
        for job_id, entry in zip(ids, answers, strict=True):
            if entry["status"] == 200 and entry["data"]["status"] not in FINAL:
                continue
            bucket = self._open.pop(job_id)
            if bucket is not None:
                self._purge(bucket)

    def _purge(self, bucket: str) -> None:
        listed = self._store.list_objects(bucket, recursive=True)
        doomed = [DeleteObject(item.object_name) for item in listed if item.object_name]
        for _ in self._store.remove_objects(bucket, doomed):
            pass
        self._store.remove_bucket(bucket)
