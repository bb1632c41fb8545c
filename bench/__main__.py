"""``python -m bench``: runs measurements one after the other, prints the table and stores it."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog

import bench.measurements  # noqa: F401  # importing them registers them
from bench import slurm
from bench.load import UnexpectedAnswerError
from bench.machine import describe, load_now
from bench.registry import MEASUREMENTS, Options
from bench.report import Report, Result
from leruli_queue.embedded.programs import find_programs
from leruli_queue.errors import SetupError

_RESULTS = Path(__file__).parent / "results"
# Errors of a measurement after which the next one still runs.
_FAILURES = (SetupError, UnexpectedAnswerError, TimeoutError, OSError, subprocess.SubprocessError)


@click.command()
@click.option("--only", multiple=True, help="One of the measurements; can be repeated.")
@click.option("--repeat", default=3, show_default=True, help="Samples of each thing.")
@click.option("--jobs", default=20_000, show_default=True, help="Jobs in one sample.")
@click.option("--crowd", default=100_000, show_default=True, help="Jobs in the group for lists.")
@click.option("--folders", default=10_000, show_default=True, help="Folders in one batch.")
@click.option("--node-jobs", default=300, show_default=True, help="Jobs that a node drains.")
@click.option("--calls", default=100, show_default=True, help="Calls in one sample of lists.")
@click.option("--settle", default=15, show_default=True, help="Seconds to sample memory.")
@click.option("--workers", default=2, show_default=True, help="Processes of serve for intake.")
@click.option("--limit", default=900, show_default=True, help="Timeout of a measurement, in s.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder to write to; else in /tmp.")
@click.option("--peers/--no-peers", default=True, help="Measure the peers too.")
@click.option("--write/--no-write", default=True, help="Write to bench/results.")
def main(
    only: tuple[str, ...],
    repeat: int,
    jobs: int,
    crowd: int,
    folders: int,
    node_jobs: int,
    calls: int,
    settle: int,
    workers: int,
    limit: int,
    data: Path | None,
    peers: bool,
    write: bool,
) -> None:
    """Measure the queue; bench/README.md describes each measurement."""
    unknown = set(only) - set(MEASUREMENTS)
    if unknown:
        raise click.UsageError(
            f"There is no measurement {', '.join(sorted(unknown))}. Choose from: "
            f"{', '.join(MEASUREMENTS)}."
        )
    peer_version = slurm.version() if peers else None
    if peers and peer_version is None:
        click.echo(
            "SLURM is not measured, as it is not installed: setup/packages.sh bench.", err=True
        )
    # Parts of a stack log to files. Log lines of this process would spoil the table.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    began = datetime.now(UTC).astimezone()
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="leruli-bench-", dir=data) as folder:
        # A peer may run as another user, who must be able to enter this folder.
        Path(folder).chmod(0o711)
        options = Options(
            *(repeat, jobs, crowd, folders, node_jobs, calls, settle, workers, Path(folder), limit),
            peers=peer_version is not None,
            published=peers,
        )
        versions = {"SLURM": peer_version} if peer_version else {}
        machine = describe(Path(folder), find_programs(node=False), versions)
        click.echo("\n".join(machine.lines()))
        results, failures = _run(only or tuple(MEASUREMENTS), options)
    report = Report(began, machine, repeat, results, failures)
    click.echo(f"\n{report.table()}\n\n{report.notes()}\n")
    for why in failures:
        click.echo(f"not measured: {why}", err=True)
    if write and results:
        click.echo(f"written to {report.write(_RESULTS)}")
    sys.exit(1 if failures else 0)


def _run(names: tuple[str, ...], options: Options) -> tuple[list[Result], list[str]]:
    results: list[Result] = []
    failures: list[str] = []
    for name in names:
        click.echo(f"==> {name}")
        began = time.monotonic()
        try:
            with _at_most(options.limit_s):
                # Add one by one: figures from before a failure stay.
                for figure in MEASUREMENTS[name](options):
                    results.append(Result(figure, load_now()))  # noqa: PERF401
        except _FAILURES as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
        click.echo(f"    {time.monotonic() - began:.0f} s, load average {load_now():.1f}")
    return results, failures


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise a TimeoutError inside the block after ``seconds``, so that the block cleans up."""

    def too_long(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"It took longer than {seconds} s (--limit).")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
