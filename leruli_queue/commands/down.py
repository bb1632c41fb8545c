"""``leruli-queue down``."""

from __future__ import annotations

from pathlib import Path

import click

from leruli_queue.commands._data import data_option
from leruli_queue.embedded import lock
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.processes import end_left_overs


@click.command("down")
@data_option
@click.option("--timeout", default=300, show_default=True, help="Seconds to wait for the end.")
def command(data: Path, timeout: int) -> None:
    """Stop what `up` started.

    Running jobs are stopped and requeued; the data stays.
    """
    folders = Folders(data.absolute())
    if lock.stop_holder(folders.lock, seconds=timeout):
        click.echo("The stack is down.", err=True)
        return
    left = end_left_overs(folders.started)
    if left:
        click.echo(f"Ended processes that a killed stack left over: {', '.join(left)}.", err=True)
    else:
        click.echo(f"No stack is up with the data folder {folders.data}.", err=True)
