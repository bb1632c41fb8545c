"""``leruli-queue up``."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

import click

from leruli_queue.commands._data import data_option
from leruli_queue.embedded import detached, lock
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.programs import find_programs
from leruli_queue.embedded.progress import Progress
from leruli_queue.embedded.stack import Stack

_WATCH_EVERY_S = 0.5


class _StopRequestedError(Exception):
    pass


@click.command("up")
@data_option
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the service. [default: free]")
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on, so that other machines can join as nodes. Unencrypted: only in a "
    "network that you trust.",
)
@click.option("--node/--no-node", default=True, help="Whether this machine is a node itself.")
@click.option("--detach", is_flag=True, help="Return once it is up; `leruli-queue down` stops it.")
@click.option("--quiet", is_flag=True, help="Print only errors.")
def command(
    data: Path, port: int | None, address: str, *, node: bool, detach: bool, quiet: bool
) -> None:
    """Run the whole system on this machine.

    It starts a real PostgreSQL, S3 server, Nomad, service, dispatcher, and this machine as a node,
    with all data in one folder. Ctrl-C stops them in order; the next start continues. The folder
    then holds env.sh (source it, and use `leruli`) and admin.sh (secrets of the admin).
    """
    folders = Folders(data.absolute())
    programs = find_programs(node=node)
    folders.make()
    # Check before detached.start empties the log of a running stack. lock.hold checks again.
    lock.refuse_if_held(folders.lock)
    if detach:
        options = ["--address", address, "--node" if node else "--no-node"]
        if port is not None:
            options += ["--port", str(port)]
        detached.start(["up", "--data", str(folders.data), *options], folders, quiet=quiet)
        return
    progress = Progress(quiet=quiet)
    with lock.hold(folders.lock):
        stack = Stack(folders, programs, progress, address=address, node=node)
        _run(stack, folders, port, progress)


def _run(stack: Stack, folders: Folders, port: int | None, progress: Progress) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _request_stop)
    try:
        with progress.shown():
            stack.start(service_port=port)
        progress.note(f"ready. For `leruli` in a shell: source {folders.env_sh}")
        detached.report_ready()
        while True:
            time.sleep(_WATCH_EVERY_S)
            stack.watch()
    except _StopRequestedError:
        pass
    finally:
        # A second Ctrl-C must not leave half of the stack running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with progress.shown():
            stack.stop()


def _request_stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopRequestedError
