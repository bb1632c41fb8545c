"""Jobs whose output is followed while they run: how late a line is, and what it costs the node."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from bench.load import UnexpectedAnswerError
from bench.node_stack import NodeStack
from bench.simulation.cpu import cpu_seconds
from leruli_queue.embedded.identities import service_url

# A job that writes the time after each pause. It ends by its cancellation. `sleep` would be a
# process each time, and 200 of these jobs would use all cores.
_WRITES = "exec 3<> <(:); while :; do echo $EPOCHREALTIME; read -t {pause} -u 3; done"
_MEMORY_MB = 50
_POLL_S = 0.5
# A client that follows a job calls so often.
_CALL_S = 10.0
# Until the node has begun to send what is followed.
_SETTLES_S = 5.0


def running_writers(stack: NodeStack, count: int, pause_s: float, limit_s: float) -> list[str]:
    """Start jobs that write a line after each pause; return their ids once all run."""
    buckets = stack.make_buckets(_WRITES.format(pause=pause_s), count)
    jobs = stack.submit(buckets, memory_mb=_MEMORY_MB)
    deadline = time.monotonic() + limit_s
    while _count(stack, jobs, "running") < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count} jobs did not begin to run")
        time.sleep(_POLL_S)
    return jobs


def cancel(stack: NodeStack, jobs: Sequence[str], limit_s: float) -> None:
    """Cancel jobs and wait until all are over."""
    with _service(stack) as http:
        body = {"secret": stack.state.user_secret, "jobids": list(jobs)}
        _check(http.post("/v22_1/bulk/task-cancel", json=body))
    deadline = time.monotonic() + limit_s
    while _count(stack, jobs, "cancelled") < len(jobs):
        if time.monotonic() > deadline:
            raise TimeoutError("the jobs were not cancelled")
        time.sleep(_POLL_S)


def line_delays(stack: NodeStack, job: str, count: int) -> list[float]:
    """Follow a job that writes the time; return the delay of each line, in s.

    Lines that were written before the first one was shown do not count: following began later.

    Raises
    ------
    UnexpectedAnswerError
        `leruli task-logs` ended.
    """
    state = stack.state
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LERULI")}
    following = subprocess.Popen(
        [Path(sys.executable).parent / "leruli", "task-logs", "--follow", job],
        env=kept
        | {
            "LERULI_BASEURL": service_url(state),
            "LERULI_API_SECRET": state.user_secret,
            "LERULI_S3_SERVER": f"http://{state.address}:{state.ports.object_store}",
            "LERULI_S3_ACCESS": state.object_store_access,
            "LERULI_S3_SECRET": state.object_store_secret,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    delays: list[float] = []
    try:
        began = 0.0
        while len(delays) < count:
            line = following.stdout.readline() if following.stdout else b""
            shown = time.time()
            if not line:
                raise UnexpectedAnswerError(f"task-logs ended: {following.wait()}")
            began = began or shown
            written = float(line)
            if written >= began:
                delays.append(shown - written)
    finally:
        following.kill()
        following.wait()
    return delays


def agent_cpu(stack: NodeStack, seconds: float) -> float:
    """Return the CPU time of the node agent and its Nomad client, in percent of one core."""
    agent = stack.process_ids["node"]
    before, began = cpu_seconds(agent), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_seconds(agent) - before) / (time.monotonic() - began)


def agent_cpu_followed(stack: NodeStack, jobs: Sequence[str], seconds: float) -> float:
    """Return the same as `agent_cpu` while each job has a follower."""

    async def measure() -> float:
        following = asyncio.create_task(_follow(stack, jobs))
        try:
            await asyncio.sleep(_SETTLES_S)
            used = await asyncio.to_thread(agent_cpu, stack, seconds)
            if following.done():
                following.result()
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        return used

    return asyncio.run(measure())


async def _follow(stack: NodeStack, jobs: Sequence[str]) -> None:
    """Call as one client for each job does. Reading the output costs the store, not the node."""
    secret = stack.state.user_secret
    async with httpx.AsyncClient(
        base_url=service_url(stack.state), timeout=60, trust_env=False
    ) as http:
        while True:
            for job in jobs:
                body = {"secret": secret, "jobid": job}
                _check(await http.post("/v22_1/task-follow", json=body))
            await asyncio.sleep(_CALL_S)


def _service(stack: NodeStack) -> httpx.Client:
    return httpx.Client(base_url=service_url(stack.state), timeout=60, trust_env=False)


def _check(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise UnexpectedAnswerError(f"{answer.status_code}: {answer.text[:300]}")


def _count(stack: NodeStack, jobs: Sequence[str], state: str) -> int:
    [row] = stack.fetch(
        "SELECT count(*) AS found FROM jobs WHERE id = ANY($1::uuid[]) AND state = $2::job_state",
        list(jobs),
        state,
    )
    return int(row["found"])
