"""Faults of a stack amid requests, after which no secret may be visible (canaries.py)."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

from canaries import Day
from e2e_world import StackOfTest, wait_for
from service_world import signing_request

from leruli_queue.embedded.plain_http import answers

MACHINE: dict[str, object] = {"cores": 1, "memorymb": 100, "csr": signing_request()}
"""Fields of a node-join."""


def break_the_database(day: Day, right: Mapping[str, str]) -> None:
    """Make the service log errors with tracebacks, then kill PostgreSQL amid requests."""
    stack = day.stack
    wanted = {"secret": right["secret"], "codeversion": "leruli-test:1", "cores": 1024}
    stack.execute(
        "ALTER TABLE jobs ADD CONSTRAINT forced CHECK (name <> 'forced') NOT VALID;"
        "ALTER TABLE users ADD CONSTRAINT forced CHECK (name <> 'forced') NOT VALID;"
        "ALTER TABLE groups RENAME COLUMN disabled_at TO forced"
    )
    renamed = stack.call("task-status", jobid=str(uuid4()), secret=right["secret"])
    stack.execute("ALTER TABLE groups RENAME COLUMN forced TO disabled_at")
    bucket = day.note_bucket("forced", str(uuid4()))
    failed = [
        renamed,
        stack.call("task-submit", bucketid=bucket, name="forced", **wanted),
        stack.call("group-create-user", name="forced", adminsecret=right["adminsecret"]),
    ]
    assert [answer.status_code for answer in failed] == [500, 500, 500]
    stack.execute(
        "ALTER TABLE jobs DROP CONSTRAINT forced; ALTER TABLE users DROP CONSTRAINT forced"
    )
    lock = "BEGIN; LOCK TABLE users, groups IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(30)"
    with ThreadPoolExecutor(1) as thread:
        locked = thread.submit(stack.execute, lock)
        answers = _kill_amid_requests(day, right, "PostgreSQL")
        assert locked.exception() is not None
    assert 503 in answers
    wait_for(lambda: _is_ready(stack), seconds=20, what="the database is back")


def _kill_amid_requests(day: Day, right: Mapping[str, str], part: str) -> set[int]:
    """Kill a part while requests wait for it; return the statuses of the answers."""
    both = {name: right[name] for name in ("grouptoken", "computesecret")}
    bodies: dict[str, dict[str, object]] = {
        "task-status": {"jobid": str(uuid4()), "secret": right["secret"]},
        "group-token": {"secret": day.secrets["revoked"]},
        "group-list-users": {"adminsecret": right["adminsecret"]},
        "node-join": {"name": "third", **MACHINE, **both},
    }
    with ThreadPoolExecutor(len(bodies)) as threads:
        asked = {call: threads.submit(day.stack.call, call, **bodies[call]) for call in bodies}
        time.sleep(0.7)
        day.stack.kill(part)
        answers = {call: future.result() for call, future in asked.items()}
    # Two of these calls rightly show secrets if they succeed.
    day.answers += [(call, answer) for call, answer in answers.items() if answer.is_error]
    return {answer.status_code for answer in answers.values()}


def _is_ready(stack: StackOfTest) -> bool:
    return answers(f"{stack.user['LERULI_BASEURL']}/readyz")


def kill_parts_during_an_upload(day: Day, folder: Path, right: Mapping[str, str]) -> None:
    """Kill node agent, Nomad server and object store while a job uploads its output."""
    stack = day.stack
    job_id = (folder / "leruli.job").read_text().strip()
    stack.wait_for_state(folder, "running")
    stack.kill("node")
    stack.kill("Nomad server", signal.SIGSTOP)
    assert 503 in _kill_amid_requests(day, right, "Nomad server")
    # Stop the object store now, so that the kill comes in the middle of the upload.
    stack.kill("object store", signal.SIGSTOP)
    uploads = "SELECT 1 FROM attempts WHERE job_id = $1::uuid AND upload_at IS NOT NULL"
    wait_for(lambda: bool(stack.fetch(uploads, job_id)), seconds=60, what="the upload begins")
    time.sleep(1)
    stack.kill("object store")
    day.run("client", ["leruli", "task-get"], folder, LERULI_DEBUG="1")
