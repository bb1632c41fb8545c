"""``python -m bench.model``: predicts a larger cluster from measured simulations."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.model.check import Comparison, compare
from bench.model.costs import DISPATCHER, NOMAD, PARTS, POSTGRES, SERVICE, read_costs
from bench.model.engine import Prediction, SaturatedError, Size, limits, predict

# Runs behind the published figures in docs/admins/scale.md.
_MEASURED = Path(__file__).parent / "measured"


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--nodes", default=5000, show_default=True, help="Nodes, over all groups.")
@click.option("--slots", default=16, show_default=True, help="Slots of each node.")
@click.option("--groups", default=25, show_default=True, help="Groups, with as many nodes each.")
@click.option("--jobs", default=1_000_000, show_default=True, help="Jobs in the backlog at first.")
@click.option("--median", default=3600.0, show_default=True, help="Median run time of a job, in s.")
@click.option("--spread", default=0.5, show_default=True, help="Sigma of its logarithm.")
@click.option("--service-cores", default=2, show_default=True, help="Processes of serve in total.")
@click.option("--postgres-cores", default=4, show_default=True, help="Cores of PostgreSQL.")
@click.option("--nomad-cores", default=4, show_default=True, help="Cores of Nomad's leader.")
@click.option("--seed", default=6, show_default=True)
@click.option(
    "--check",
    type=click.Path(path_type=Path, exists=True),
    help="Compare the model with this run of bench.simulate instead.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="File for all results.")
@click.option("--quiet", is_flag=True, help="No table.")
def main(
    runs: tuple[Path, ...],
    nodes: int,
    slots: int,
    groups: int,
    jobs: int,
    median: float,
    spread: float,
    service_cores: int,
    postgres_cores: int,
    nomad_cores: int,
    seed: int,
    check: Path | None,
    json_path: Path | None,
    quiet: bool,
) -> None:
    """Model a cluster from RUNS (bench.simulate --json), by default bench/model/measured."""
    try:
        costs = read_costs(runs or sorted(_MEASURED.glob("*.json")))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    console = Console(quiet=quiet)
    if check is not None:
        compared = compare(costs, json.loads(check.read_text(encoding="utf-8")))
        console.print(_compared(check.name, compared))
        if json_path is not None:
            text = json.dumps([asdict(one) | {"error": one.error} for one in compared], indent=2)
            json_path.write_text(text + "\n", encoding="utf-8")
        return
    cores = {
        SERVICE: service_cores,
        DISPATCHER: 1,
        POSTGRES: postgres_cores,
        NOMAD: nomad_cores,
    }
    size = Size(nodes, slots, groups, cores)
    full_at = limits(costs, size)
    draw = random.Random(seed)  # noqa: S311  # no secret
    try:
        found = predict(
            costs, size, (median * draw.lognormvariate(0.0, spread) for _ in range(jobs))
        )
    except SaturatedError as error:
        click.echo(f"This cluster cannot work: {error}.", err=True)
        sys.exit(1)
    console.print(_table(size, found, full_at))
    if json_path is not None:
        idle = {part: costs.background(part, nodes) for part in PARTS}
        whole = {
            "parameters": {"nodes": nodes, "slots": slots, "groups": groups, "jobs": jobs,
                           "median": median, "spread": spread, "cores": cores, "seed": seed},
            "costs": asdict(costs), "idle_cores": idle, "full_at": full_at,
            "prediction": asdict(found),
        }  # fmt: skip
        json_path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _compared(name: str, compared: Sequence[Comparison]) -> Table:
    table = Table(title=f"the model and {name}")
    for column in ("what", "simulated", "modelled", "error"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for one in compared:
        table.add_row(one.what, f"{one.simulated:.2f}", f"{one.modelled:.2f}", f"{one.error:+.0%}")
    return table


def _table(size: Size, found: Prediction, full_at: Mapping[str, float]) -> Table:
    table = Table(title=f"{found.jobs:,} jobs on {size.nodes:,} nodes of {size.slots_a_node} slots")
    table.add_column("what")
    table.add_column("", justify="right")
    table.add_column("full at", justify="right")
    table.add_row("all ended after", f"{found.seconds / 3600:.1f} h", "")
    table.add_row("jobs a second", f"{found.jobs_a_second:.1f}", "")
    table.add_row("slots that a job holds", f"{found.occupied:.1%}", "")
    table.add_row("slot free to the next command, median", f"{found.lag_median:.2f} s", "")
    table.add_row("the same, 95 %", f"{found.lag_p95:.2f} s", "", end_section=True)
    for part, rate in full_at.items():
        table.add_row(f"load of {part}", f"{found.load[part]:.1%}", f"{rate:.0f} jobs/s")
    first = min(full_at, key=lambda part: full_at[part])
    table.caption = f"first to be full: {first}, at {full_at[first]:.0f} jobs/s"
    return table


if __name__ == "__main__":
    main()
