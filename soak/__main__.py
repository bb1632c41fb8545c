"""``python -m soak``: does one run, prints the report, and exits with 1 if it has findings."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from leruli_queue.errors import SetupError
from soak.parts import NAMES
from soak.report import Progress
from soak.run import Options, copy_logs, run


@click.command()
@click.option("--seed", type=int, help="Order of jobs and kills. [default: a random one, shown]")
@click.option("--jobs", default=50_000, show_default=True, help="Jobs that are received.")
@click.option("--drain", default=2_000, show_default=True, help="Jobs that are run to their end.")
@click.option(
    "--kill-every",
    default=20.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds between two kills, on average.",
)
@click.option(
    "--fewest-kills",
    default=2,
    show_default=True,
    help="The drain ends only after every part was killed this often.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(NAMES),
    default=NAMES,
    help="Kill this part only; can be repeated. [default: all]",
)
@click.option("--hostile", is_flag=True, help="Add enemies beside the honest users.")
@click.option(
    "--short", is_flag=True, help="Short jobs in slots, half of them in shared containers."
)
@click.option("--keep-logs", is_flag=True, help="Keep the logs of the parts in any case.")
@click.option("--limit", default=10_800, show_default=True, help="Timeout of the drain, in s.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder to work in; else in /tmp.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def main(
    seed: int | None,
    jobs: int,
    drain: int,
    kill_every: float,
    fewest_kills: int,
    parts: tuple[str, ...],
    hostile: bool,
    short: bool,
    keep_logs: bool,
    limit: int,
    data: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Submit very many jobs and drain some of them while every part is killed at random.

    soak/README.md lists the checks. The exit code is 1 if a check finds something.
    """
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="leruli-soak-", dir=data))
    seed = secrets.randbelow(2**31) if seed is None else seed
    options = Options(
        seed, jobs, drain, kill_every, fewest_kills, parts, limit, folder / "data", hostile, short
    )
    whole = False
    try:
        with Progress(quiet=quiet) as progress:
            report = run(options, progress)
        whole = not report.findings
    except SetupError as error:
        raise click.ClickException(f"seed {seed}: {error}") from error
    finally:
        if keep_logs or not whole:
            logs = Path(tempfile.gettempdir()) / f"leruli-soak-logs-{seed}"
            copy_logs(folder / "data", logs)
            click.echo(f"The logs of all parts are in {logs}.", err=True)
        # This fails if the stack left anything mounted there.
        # Not by shutil.rmtree: it recurses, and an enemy's tree may be deep.
        subprocess.run(["rm", "-rf", "--", folder], check=True)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.text())
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
