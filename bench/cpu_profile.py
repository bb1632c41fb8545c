"""``python -m bench.cpu_profile``: CPU time of a short job by part, beside `docker run`.

Needs root and perf. docs/developers/short-jobs.md has the table and its conclusions.
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
@click.option("--slot-max", default=60, show_default=True, help="LERULI_QUEUE_SLOT_MAX_S.")
@click.option("--shared", is_flag=True, help="Jobs in shared containers.")
def main(jobs: int, slots: int, slot_max: int, shared: bool) -> None:
    """Run jobs of the command `true`, then as many containers; print both as one table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="leruli-profile-") as folder:
        data = Path(folder)
        settings = {"LERULI_QUEUE_SLOT_MAX_S": str(slot_max)}
        with running_node_stack(data / "stack", slots=slots, settings=settings) as stack:
            buckets = stack.make_buckets("true", slots + jobs)
            # Warm-up: the first jobs load the image and register the parent job.
            stack.wait_until_completed(stack.submit(buckets[:slots], shares=shared), 300)
            with recorded(data / "ours"):
                stack.wait_until_completed(stack.submit(buckets[slots:], shares=shared), 600)
            with recorded(data / "bare"):
                bare_rate(jobs, slots)
            ours = by_part(data / "ours", stack.process_ids)
            bare = by_part(data / "bare", stack.process_ids)
    click.echo(table(ours, bare, jobs))


def table(ours: Mapping[str, float], bare: Mapping[str, float], jobs: int) -> str:
    """Return a Markdown table of both, in ms per job, largest part first, without OTHER."""
    lines = ["| CPU ms a job | a job of ours | docker run |", "| --- | ---: | ---: |"]
    sums = [0.0, 0.0]
    for part in sorted({*ours, *bare}, key=lambda part: -max(ours.get(part, 0), bare.get(part, 0))):
        # The stack idles while docker run is measured; its CPU time does not count then.
        counts = part.startswith("Docker") or part in (KERNEL, INSIDE)
        values = [ours.get(part, 0.0), bare.get(part, 0.0) if counts else 0.0]
        values = [seconds / jobs * 1000 for seconds in values]
        if part == OTHER or max(values) < _LEAST_MS:
            continue
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        lines.append(f"| {part} | {values[0]:.0f} | {values[1]:.0f} |")
    lines.append(f"| all | {sums[0]:.0f} | {sums[1]:.0f} |")
    others = [f"{seconds.get(OTHER, 0.0) / jobs * 1000:.0f}" for seconds in (ours, bare)]
    return "\n".join([*lines, f"Other processes meanwhile: {' and '.join(others)} ms."])


if __name__ == "__main__":
    main()
