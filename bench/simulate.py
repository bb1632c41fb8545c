"""``python -m bench.simulate``: runs jobs on many simulated nodes on this machine.

bench/README.md says which parts are real and which are simulated.
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
from bench.simulation.nodes import Agents, NodeSize, Staging
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
@click.option("--median", default=20.0, show_default=True, help="Median run time of a job, in s.")
@click.option("--spread", default=0.5, show_default=True, help="Sigma of its logarithm; 0: equal.")
@click.option("--failing", default=0.02, show_default=True, help="Share of exit code 1.")
@click.option("--groups", default=2, show_default=True, help="Groups; each has as many nodes.")
@click.option("--users", default=3, show_default=True, help="Users of each group.")
@click.option(
    "--absent",
    default=0,
    show_default=True,
    help="Further machines that joined and are off. They lengthen Nomad's lists of nodes.",
)
@click.option("--stage-in", default=0.0, show_default=True, help="Seconds for image and input.")
@click.option(
    "--container-start", default=0.0, show_default=True, help="Seconds that Docker needs to start."
)
@click.option("--stage-out", default=0.0, show_default=True, help="Seconds for the output.")
@click.option(
    "--slot-max",
    type=float,
    help="LERULI_QUEUE_SLOT_MAX_S; 0: Nomad places every job. [default: as it is set]",
)
@click.option("--old-agents", is_flag=True, help="Node agents from before slots.")
@click.option("--workers", default=1, show_default=True, help="Processes of serve.")
@click.option("--seed", default=6, show_default=True, help="The same seed gives the same jobs.")
@click.option("--limit", default=900, show_default=True, help="Timeout of the run, in s.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for all results.")
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
    slot_max: float | None,
    old_agents: bool,
    workers: int,
    seed: int,
    limit: int,
    json_path: Path | None,
    quiet: bool,
) -> None:
    """Run jobs on simulated nodes; report the use of slots and the delay of each step."""
    console = Console(quiet=quiet)
    # A TERM acts as Ctrl-C, so everything that was started and written is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if groups < 1 or nodes < groups:
        raise click.UsageError("At least one group is needed, and a node for each group.")
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
                    slot_max_s=slot_max,
                    agents=Agents(know_slots=not old_agents),
                ) as world,
                _bar(console, jobs) as watch,
            ):
                outcome = run_to_the_end(world, drawn, limit_s=limit, watch=watch)
    except _FAILURES as error:
        click.echo(f"The simulation failed: {error}", err=True)
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
        click.echo(f"an attempt failed: {trouble}", err=True)


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
                description=f"{counts.received} received, {counts.submitted} submitted, "
                f"{counts.running} run",
            )

        yield watch


def _table(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.jobs} jobs on {outcome.nodes} nodes, {outcome.cores} cores")
    for column in ("what", "median", "95 %", "largest"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("jobs a second, with a backlog", f"{outcome.jobs_a_second:.1f}")
    table.add_row("dispatches a second", f"{outcome.dispatched_a_second:.1f}")
    table.add_row("jobs that ran in another's slot", str(outcome.further))
    table.add_row("from the first dispatch to the last receipt, s", f"{outcome.seconds:.1f}")
    table.add_row("fairness between users while half of the jobs wait", f"{outcome.fairness:.3f}")
    for cores, seconds in outcome.ends_s.items():
        table.add_row(f"mean end of jobs of {cores} core(s), s", f"{seconds:.1f}")
    table.add_row("cores that a slot holds", f"{outcome.occupied:.1%}")
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
