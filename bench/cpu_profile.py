"""``python -m bench.cpu_profile``: where the CPU time of a short job goes, beside `docker run`'s.

As root, with perf. docs/developers/short-jobs.md has its table and says what follows from it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
import structlog

from bench.containers import bare_rate
from bench.cpu_time import INSIDE, KERNEL, OTHER, by_part, recorded
from bench.node_stack import running_node_stack

_LEAST_MS = 0.5


@click.command()
@click.option("--jobs", default=60, show_default=True, help="Jobs, and containers of docker run.")
@click.option("--slots", default=8, show_default=True, help="How many at once.")
def main(jobs: int, slots: int) -> None:
    """Drain jobs that run `true`, then run as many containers, and print both as one table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="leruli-profile-") as folder:
        data = Path(folder)
        with running_node_stack(data / "stack", slots=slots) as stack:
            buckets = stack.make_buckets("true", slots + jobs)
            # The image is loaded, and the parent job registered, by the first of all.
            stack.wait_until_completed(stack.submit(buckets[:slots]), 300)
            with recorded(data / "ours"):
                stack.wait_until_completed(stack.submit(buckets[slots:]), 600)
            with recorded(data / "bare"):
                bare_rate(jobs, slots)
            ours = by_part(data / "ours", stack.process_ids)
            bare = by_part(data / "bare", stack.process_ids)
    click.echo(table(ours, bare, jobs))


def table(ours: Mapping[str, float], bare: Mapping[str, float], jobs: int) -> str:
    """Return both as milliseconds a job, the dearest part first; `other` is not of the sum."""
    lines = ["| CPU ms a job | a job of ours | docker run |", "| --- | ---: | ---: |"]
    sums = [0.0, 0.0]
    for part in sorted({*ours, *bare}, key=lambda part: -max(ours.get(part, 0), bare.get(part, 0))):
        # While docker run is measured, the idle stack is not part of it.
        counts = part.startswith("Docker") or part in (KERNEL, INSIDE)
        values = [ours.get(part, 0.0), bare.get(part, 0.0) if counts else 0.0]
        values = [seconds / jobs * 1000 for seconds in values]
        if part == OTHER or max(values) < _LEAST_MS:
            continue
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        lines.append(f"| {part} | {values[0]:.0f} | {values[1]:.0f} |")
    lines.append(f"| all | {sums[0]:.0f} | {sums[1]:.0f} |")
    others = [f"{seconds.get(OTHER, 0.0) / jobs * 1000:.0f}" for seconds in (ours, bare)]
    return "\n".join([*lines, f"What else the machine did meanwhile: {' and '.join(others)} ms."])


if __name__ == "__main__":
    main()
