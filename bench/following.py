"""Clients that wait for jobs, and jobs that are cancelled while they run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from bench.load import UnexpectedAnswerError
from bench.node_stack import NodeStack
from bench.simulation.cpu import cpu_seconds
from bench.stack import Stack
from leruli_queue.embedded.identities import service_url

# Until `leruli task-wait` has started and waits at the service.
_WAITS_AFTER_S = 2.0
# Until a client that awaits jobs has read all states once.
_AWAITS_AFTER_S, _A_JOB_S = 5.0, 0.002
_POLL_S = 0.1
_TERM = "term.txt"
_TRAPS = (
    f'trap "echo \\$EPOCHREALTIME >{_TERM}; exit" TERM; touch ready; while :; do sleep 0.05; done'
)
_AWAIT = "import json, sys, leruli; leruli.wait(json.load(sys.stdin))"


def end_delays(stack: Stack, jobs: Sequence[UUID]) -> list[float]:
    """End each job while a `leruli task-wait` waits for it; return the delays until that exits.

    Raises
    ------
    UnexpectedAnswerError
        A `task-wait` failed, or ended before its job.
    """
    return [_end_delay(stack, job) for job in jobs]


def _end_delay(stack: Stack, job: UUID) -> float:
    waiting = subprocess.Popen(
        [Path(sys.executable).parent / "leruli", "task-wait", "--quiet", str(job)],
        env=_user(f"http://127.0.0.1:{stack.port}", stack.user_secret),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with waiting:
        time.sleep(_WAITS_AFTER_S)
        early = waiting.poll()
        _execute(
            stack,
            "UPDATE jobs SET state = 'completed', exit_code = 0, ended_at = now() WHERE id = $1",
            job,
        )
        ended = time.monotonic()
        _, said = waiting.communicate(timeout=60)
        delay = time.monotonic() - ended
    if early is not None or waiting.returncode != 0:
        raise UnexpectedAnswerError(f"task-wait: {waiting.returncode}, {said.decode().strip()}")
    return delay


def _execute(stack: Stack, sql: str, *arguments: object) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(stack.database_url)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    asyncio.run(execute())


@dataclass(frozen=True)
class Awaited:
    """Jobs for which one client waits."""

    stack: Stack
    client: subprocess.Popen[bytes]
    count: int

    def at_rest(self, seconds: float) -> tuple[float, float]:
        """Return the calls in 10 s, and the CPU time of `serve` in percent of one core.

        Raises
        ------
        UnexpectedAnswerError
            The client ended.
        """
        serve = self.stack.serve
        if serve.process is None:
            raise UnexpectedAnswerError("serve does not run")
        time.sleep(_AWAITS_AFTER_S + _A_JOB_S * self.count)
        calls, cpu = self._calls(), cpu_seconds(serve.process.pid)
        time.sleep(seconds)
        calls, cpu = self._calls() - calls, cpu_seconds(serve.process.pid) - cpu
        if self.client.poll() is not None:
            raise UnexpectedAnswerError(f"the client ended: {self.client.returncode}")
        return 10 * calls / seconds, 100 * cpu / seconds

    def _calls(self) -> int:
        log = self.stack.folders.logs / "serve.log"
        return log.read_text(encoding="utf-8").count('"path": "/v22_1/')


@contextmanager
def awaiting(stack: Stack, jobs: Sequence[UUID]) -> Iterator[Awaited]:
    """Have one client wait for jobs within the block."""
    with tempfile.TemporaryFile() as named:
        named.write(json.dumps([str(job) for job in jobs]).encode())
        named.seek(0)
        client = subprocess.Popen(
            [sys.executable, "-c", _AWAIT],
            env=_user(f"http://127.0.0.1:{stack.port}", stack.user_secret),
            stdin=named,
        )
        try:
            yield Awaited(stack, client, len(jobs))
        finally:
            client.kill()
            client.wait()


def cancel_delays(stack: NodeStack, count: int, limit_s: float) -> list[float]:
    """Cancel running jobs, one after the other; return the delays until their TERM."""
    return [_cancel_delay(stack, limit_s) for _ in range(count)]


def _cancel_delay(stack: NodeStack, limit_s: float) -> float:
    [bucket] = stack.make_buckets(_TRAPS, 1)
    [job] = stack.submit([bucket])
    deadline = time.monotonic() + limit_s
    ready = stack.folders.data / f"node/jobs/{job}x1/rundir/ready"
    while not ready.exists():
        _pause(deadline)
    body = {"secret": stack.state.user_secret, "jobid": job}
    cancelled = time.time()
    answer = httpx.post(
        f"{service_url(stack.state)}/v22_1/task-cancel", json=body, timeout=60, trust_env=False
    )
    if not answer.is_success:
        raise UnexpectedAnswerError(f"task-cancel: {answer.status_code}: {answer.text[:300]}")
    while stack.fetch("SELECT FROM jobs WHERE id = $1 AND state <> 'cancelled'", UUID(job)):
        _pause(deadline)
    written: Any = stack.store().get_object(bucket, _TERM)
    try:
        return float(written.data) - cancelled
    finally:
        written.close()
        written.release_conn()


def _pause(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("a job did not begin, or was not cancelled")
    time.sleep(_POLL_S)


def _user(url: str, secret: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LERULI")}
    return kept | {"LERULI_BASEURL": url, "LERULI_API_SECRET": secret}
