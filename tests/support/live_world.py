"""A job whose live output a test writes: into the real storage, in the place of a node agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_world import job_of
from queue_world import QueueOfTest
from service_world import GroupOfTest

LOGS = {"out": "joblog.txt", "err": "joberr.txt"}


@dataclass
class Live:
    """The job of a folder, its rows in the real database and its objects in the real storage."""

    store: Any
    queue: QueueOfTest
    group: GroupOfTest
    folder: Path
    attempt: int = 0

    @property
    def bucket(self) -> str:
        return (self.folder / "leruli.bucket").read_text().strip()

    def run(self, attempt: int) -> None:
        """Let an attempt of the job run."""
        self.attempt = attempt
        self.queue.sql(
            "INSERT INTO attempts (job_id, number, node_set, started_at) "
            "VALUES ($1::uuid, $2, 'none', now())",
            *(job_of(self.folder), attempt),
        )
        self.queue.sql(
            "UPDATE jobs SET state = 'running', running_at = now(), attempt = $2 "
            "WHERE id = $1::uuid",
            *(job_of(self.folder), attempt),
        )

    def requeue(self) -> None:
        """Let the job wait for its next attempt."""
        self.queue.sql(
            "UPDATE jobs SET state = 'received' WHERE id = $1::uuid", job_of(self.folder)
        )

    def followed(self) -> Any:
        """Return the rows by which the service knows who is followed."""
        return self.queue.sql("SELECT * FROM follows WHERE job_id = $1::uuid", job_of(self.folder))

    def write(self, stream: str, offset: int, content: bytes) -> None:
        """Write live output as the node agent does."""
        name = f".leruli/live/{self.attempt}/{stream}/{offset:015}"
        self.store.put(self.bucket, name, content)

    def remove_live(self) -> None:
        """Remove the live output, as the node agent does before its receipt."""
        for item in self.store.list(self.bucket, ".leruli/live/"):
            self.store.remove(self.bucket, item.name)

    def put_log(self, stream: str, content: bytes) -> None:
        self.store.put(self.bucket, LOGS[stream], content)

    def end(
        self,
        state: str,
        reason: str | None = None,
        exit_code: int | None = None,
        outcome: str | None = None,
    ) -> None:
        """Let the job and its attempt, if there is one, end as a receipt does."""
        self.queue.sql(
            "UPDATE attempts SET ended_at = now(), outcome = $1, exit_code = $2 "
            "WHERE job_id = $3::uuid",
            *(outcome, exit_code, job_of(self.folder)),
        )
        self.queue.sql(
            "UPDATE jobs SET state = $1::job_state, ended_at = now(), reason = $2, exit_code = $3 "
            "WHERE id = $4::uuid",
            *(state, reason, exit_code, job_of(self.folder)),
        )
