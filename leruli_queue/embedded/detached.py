"""Runs the stack in the background: ``leruli-queue up --detach``.

The background process inherits the writing end of a pipe and reports through it when the stack is
up. An end of file without a report means that the stack failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import click

from leruli_queue.embedded.folders import Folders
from leruli_queue.errors import SetupError

_REPORT_VARIABLE = "LERULI_QUEUE_UP_REPORTS_TO"
_READY = b"ready"


def start(arguments: list[str], folders: Folders, *, quiet: bool) -> None:
    """Start this command line again in the background and wait until the stack is up.

    Raises
    ------
    SetupError
        When the stack does not come up, with its output.
    """
    log_path = folders.logs / "up.log"
    reading, writing = os.pipe()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "leruli_queue", *arguments],
            env=os.environ | {_REPORT_VARIABLE: str(writing)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        done = threading.Event()
        follower = threading.Thread(target=_follow, args=(log_path, done, quiet))
        follower.start()
        try:
            came_up = report.read(len(_READY)) == _READY
        finally:
            done.set()
            follower.join()
    if not came_up:
        process.wait()
        said = log_path.read_text(encoding="utf-8", errors="replace").strip()
        raise SetupError(f"the stack did not come up. What it said ({log_path}):\n{said}")
    if not quiet:
        click.echo(
            f"It runs in the background; stop it with `leruli-queue down --data {folders.data}`.",
            err=True,
        )


def report_ready() -> None:
    """Report to the starting process, if this is a background process, that the stack is up."""
    descriptor = os.environ.pop(_REPORT_VARIABLE, None)
    if descriptor is not None:
        os.write(int(descriptor), _READY)
        os.close(int(descriptor))


def _follow(path: Path, done: threading.Event, quiet: bool) -> None:
    """Show new text of the log until done."""
    with path.open(encoding="utf-8", errors="replace") as log:
        while True:
            finished = done.is_set()
            text = log.read()
            if text and not quiet:
                click.echo(text, err=True, nl=False)
            if finished:
                return
            time.sleep(0.1)
