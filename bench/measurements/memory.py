"""Memory of `serve` and `dispatch` with a large backlog, which must stay in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from bench.crowd import add_crowd
from bench.figures import Better, Figure, Samples
from bench.load import request, send
from bench.registry import Options, measurement
from bench.stack import Stack, running_stack
from leruli_queue.errors import SetupError
from leruli_queue.jobs.states import JobState

_CALLS = 200


@measurement("memory")
def memory(options: Options) -> Iterator[Figure]:
    """Measure with the crowd, then with ten times as many jobs: at most a tenth more memory."""
    with running_stack(options.folder / "memory", workers=1, nomad=True) as stack:
        count, before = 0, None
        for crowd in (options.crowd, 10 * options.crowd):
            add_crowd(stack, crowd - count, (JobState.RECEIVED,))
            count = crowd
            _use(stack, options.limit_s)
            samples = []
            for _ in range(options.repeat):
                time.sleep(options.settle_s / options.repeat)
                samples.append(resident_mb(stack))
            ours = Samples(samples, note="serve (one process) and dispatch together")
            target = 400 if before is None else min(400, 1.1 * before)
            yield Figure(f"memory with {crowd:,} jobs waiting", "MB", Better.LOWER, ours, target)
            before = ours.median


def resident_mb(stack: Stack) -> float:
    """Return the resident memory of `serve` and `dispatch`, in MB."""
    parts = [part for part in (stack.serve, stack.dispatch) if part is not None]
    for part in parts:
        if not part.is_alive:
            raise SetupError(f"The {part.name} ended while it was measured; see {part.log}.")
    return sum(_resident_kb(part.process.pid) for part in parts if part.process) / 1000


def _resident_kb(pid: int) -> float:
    """Return the resident memory of a process and its children, in kB of 1000 bytes."""
    process = Path(f"/proc/{pid}")
    children = (process / "task" / str(pid) / "children").read_text(encoding="utf-8").split()
    for line in (process / "status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            own = int(line.split()[1]) * 1.024
            return own + sum(_resident_kb(int(child)) for child in children)
    raise SetupError(f"The process {pid} ended while it was measured.")


def _use(stack: Stack, limit_s: float) -> None:
    """Ask for many pages of jobs, as memory would grow then."""
    body = {"secret": stack.user_secret, "limit": 100}
    post = request("/v22_1/task-list", orjson.dumps(body))
    send(stack.port, [post] * _CALLS, connections=4, limit_s=limit_s)
