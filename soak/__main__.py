"""``python -m soak``: run it once, print the report, tell by the exit code whether all was well."""

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
    help="It goes on until every part was killed so often.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(NAMES),
    default=NAMES,
    help="Kill this part only; can be repeated. [default: all]",
)
@click.option("--hostile", is_flag=True, help="With enemies beside the honest users.")
@click.option("--keep-logs", is_flag=True, help="Keep the parts' logs also when all is well.")
@click.option("--limit", default=10_800, show_default=True, help="Seconds for the drain.")
@click.option("--data", type=click.Path(path_type=Path), help="Where to work; else in /tmp.")
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
    keep_logs: bool,
    limit: int,
    data: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Receive very many jobs and drain some while every part is killed at random.

    soak/README.md says what must hold afterwards. The exit code is 1 when something does not.
    """
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="leruli-soak-", dir=data))
    seed = secrets.randbelow(2**31) if seed is None else seed
    options = Options(
        seed, jobs, drain, kill_every, fewest_kills, parts, limit, folder / "data", hostile
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
            click.echo(f"what the parts logged is in {logs}", err=True)
        # Fails when the stack left anything mounted there.
        # Python's own way recurses, and an enemy's tree may be deep.
        subprocess.run(["rm", "-rf", "--", folder], check=True)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.text())
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
