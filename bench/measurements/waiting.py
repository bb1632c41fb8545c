"""What 1,000 nodes at rest cost one `serve`, while their reports wait and while they poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import asyncpg

from bench.figures import Better, Figure, Samples, percentile
from bench.measurements.memory import resident_mb
from bench.registry import Options, measurement
from bench.simulation.cpu import cpu_seconds
from bench.stack import Stack, running_stack
from bench.waiting_nodes import REPORT_S, Nodes, add_nodes

_NODES = 1000
# Nodes that are drained at once, to see when they are told.
_DRAINED = 100
_PERIODS = 3


@measurement("waiting")
def waiting(options: Options) -> Iterator[Figure]:
    """Measure nodes as older agents report, then the same with reports that wait."""
    for waits in (False, True):
        how = "waiting" if waits else "polling"
        with running_stack(options.folder / how, workers=1) as stack:
            tokens = add_nodes(stack, _NODES)
            cpu, memory, connections, delay = asyncio.run(_measure(stack, tokens, waits=waits))
        name = f"{_NODES:,} nodes at rest, {how}"
        yield Figure(f"{name}: CPU of serve", "ms/s", Better.LOWER, Samples([cpu]), 1000)
        yield Figure(f"{name}: memory of serve", "MB", Better.LOWER, Samples([memory]), 400)
        yield Figure(
            f"{name}: connections to PostgreSQL", "", Better.LOWER, Samples([connections]), 12
        )
        if waits:
            yield Figure(f"{_DRAINED} of them told, p95", "s", Better.LOWER, Samples([delay]), 1.0)


async def _measure(
    stack: Stack, tokens: list[str], *, waits: bool
) -> tuple[float, float, float, float]:
    nodes = Nodes(stack.port, tokens, waits=waits)
    work = asyncio.create_task(nodes.run())
    try:
        await asyncio.sleep(2 * REPORT_S)
        began, before = time.monotonic(), _cpu_seconds(stack)
        await asyncio.sleep(_PERIODS * REPORT_S)
        cpu = 1000 * (_cpu_seconds(stack) - before) / (time.monotonic() - began)
        memory = resident_mb(stack)
        connection = await asyncpg.connect(stack.database_url)
        try:
            connections = await connection.fetchval(
                "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
            )
            nodes.news.clear()
            told_at = time.monotonic()
            await connection.execute(
                "UPDATE nodes SET drained_at = now() WHERE id IN (SELECT id FROM nodes LIMIT $1)",
                _DRAINED,
            )
            await asyncio.sleep(5.0)
        finally:
            await connection.close()
        delays = [at - told_at for at in nodes.news]
        if waits and len(delays) < _DRAINED:
            raise RuntimeError(f"only {len(delays)} of {_DRAINED} nodes were told")
        return cpu, memory, float(connections), percentile(delays, 0.95) if delays else 0.0
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work


def _cpu_seconds(stack: Stack) -> float:
    """Return the CPU time that `serve` has used."""
    if stack.serve.process is None:
        raise RuntimeError("serve does not run")
    return cpu_seconds(stack.serve.process.pid)
