"""``python -m bench.simulate``: many nodes on this machine, and what they do with jobs.

What is real and what is played is in bench/README.md.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.load import UnexpectedAnswerError
from bench.machine import describe, load_now
from bench.simulation.nodes import NodeSize, Staging
from bench.simulation.outcome import Outcome
from bench.simulation.run import run_to_the_end
from bench.simulation.watch import Progress as Counts
from bench.simulation.workload import MIXED, ONE_CORE, Workload, draw_jobs
from bench.simulation.world import running_world
from leruli_queue.embedded.programs import find_programs
from leruli_queue.errors import SetupError

_FAILURES = (SetupError, UnexpectedAnswerError, TimeoutError, OSError)
_MEMORY_MB_A_CORE = 4000


@click.command()
@click.option("--nodes", default=50, show_default=True, help="Nodes, over all groups.")
@click.option("--cores", default=8, show_default=True, help="Cores of each node.")
@click.option("--jobs", default=2000, show_default=True, help="Jobs, all submitted at once.")
@click.option("--shapes", type=click.Choice(["one-core", "mixed"]), default="mixed")
@click.option("--median", default=20.0, show_default=True, help="Seconds that a job runs.")
@click.option("--spread", default=0.5, show_default=True, help="Of its logarithm; 0: all alike.")
@click.option("--failing", default=0.02, show_default=True, help="Share that ends with code 1.")
@click.option("--groups", default=2, show_default=True, help="Groups, with as many nodes each.")
@click.option("--users", default=3, show_default=True, help="Users of each group.")
@click.option(
    "--absent",
    default=0,
    show_default=True,
    help="Further machines that joined and are off: they make Nomad's lists of nodes longer.",
)
@click.option("--stage-in", default=0.0, show_default=True, help="Seconds for image and input.")
@click.option(
    "--container-start", default=0.0, show_default=True, help="Seconds until Docker runs it."
)
@click.option("--stage-out", default=0.0, show_default=True, help="Seconds for the output.")
@click.option("--workers", default=1, show_default=True, help="Processes of serve.")
@click.option("--seed", default=6, show_default=True, help="The same jobs for the same seed.")
@click.option("--limit", default=900, show_default=True, help="Seconds until it gives up.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all of it here.")
@click.option("--quiet", is_flag=True, help="No progress and no table.")
def main(
    nodes: int,
    cores: int,
    jobs: int,
    shapes: str,
    median: float,
    spread: float,
    failing: float,
    groups: int,
    users: int,
    absent: int,
    stage_in: float,
    container_start: float,
    stage_out: float,
    workers: int,
    seed: int,
    limit: int,
    json_path: Path | None,
    quiet: bool,
) -> None:
    """Run jobs on simulated nodes; say how full these were and how late each step came."""
    console = Console(quiet=quiet)
    # As Ctrl-C: what was started and written goes with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if groups < 1 or nodes < groups:
        raise click.UsageError("There has to be a group, and a node for each group.")
    chosen = ONE_CORE if shapes == "one-core" else MIXED
    if cores < max(shape.cores for shape in chosen):
        raise click.UsageError(f"No node of {cores} cores is large enough for these shapes.")
    workload = Workload(jobs, chosen, median, spread, failing=failing)
    drawn = draw_jobs(workload, groups=groups, users=users, seed=seed)
    sizes = [NodeSize(n % groups, cores, _MEMORY_MB_A_CORE * cores) for n in range(nodes)]
    began = datetime.now(UTC).astimezone()
    try:
        with tempfile.TemporaryDirectory(prefix="leruli-simulate-") as folder:
            machine = describe(Path(folder), find_programs(node=False), {})
            console.print(*machine.lines(), sep="\n")
            console.print(f"starting {nodes} nodes of {cores} cores for {groups} group(s)")
            staging = Staging(stage_in, container_start, stage_out)
            with (
                running_world(
                    Path(folder) / "stack",
                    sizes,
                    absent=[NodeSize(n % groups, 1, 16) for n in range(absent)],
                    users=users,
                    workers=workers,
                    staging=staging,
                ) as world,
                _bar(console, jobs) as watch,
            ):
                outcome = run_to_the_end(world, drawn, limit_s=limit, watch=watch)
    except _FAILURES as error:
        click.echo(f"The simulation did not end as it should: {error}", err=True)
        sys.exit(1)
    console.print(_table(outcome))
    console.print(f"load average after it: {load_now():.1f}")
    if json_path is not None:
        parameters = click.get_current_context().params
        whole = {
            "began": began.isoformat(timespec="seconds"),
            "machine": machine.as_dict(),
            "load_after": load_now(),
            "parameters": {k: v for k, v in parameters.items() if k not in ("json_path", "quiet")},
            "outcome": asdict(outcome),
        }
        json_path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    for trouble in outcome.troubles:
        click.echo(f"an attempt ended so: {trouble}", err=True)


@contextmanager
def _bar(console: Console, jobs: int) -> Iterator[Callable[[Counts], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("idle", total=jobs)

        def watch(counts: Counts) -> None:
            progress.update(
                task,
                completed=counts.ended,
                description=f"{counts.received} wait, {counts.submitted} submitted, "
                f"{counts.running} run",
            )

        yield watch


def _table(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.jobs} jobs on {outcome.nodes} nodes, {outcome.cores} cores")
    for column in ("what", "median", "95 %", "largest"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("jobs a second while a backlog", f"{outcome.jobs_a_second:.1f}")
    table.add_row("dispatches a second", f"{outcome.dispatched_a_second:.1f}")
    table.add_row("cores that a job holds", f"{outcome.occupied:.1%}")
    table.add_row("cores whose job's command runs", f"{outcome.computing:.1%}", end_section=True)
    for name, lag in outcome.lags.items():
        table.add_row(f"{name}, s", f"{lag.median:.3f}", f"{lag.p95:.3f}", f"{lag.largest:.3f}")
    table.add_section()
    for part, ms in outcome.cpu_ms.items():
        at_most = f"one core is full at {1000 / ms:.0f} jobs/s" if ms else ""
        table.add_row(f"{part}: {outcome.cpu_cores[part]:.2f} cores", f"{ms:.1f} ms", at_most)
    return table


if __name__ == "__main__":
    main()
