"""Helpers for tests of the client, mostly of batches, against the real service and store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

CLI = Path(__file__).parents[2] / "cli"
COUNT = 150


def submitting(verb="task-submit", pattern="case-*"):
    return [verb, "--batch", pattern, "psi4", "1.5", "psi4", "input.dat"]


MAIL = ("--mail", "ada@example.org")


def with_mail(words):
    """The words of a command with --mail."""
    first, *rest = words
    return (first, *MAIL, *rest)


def make_scan(folder):
    """Make a folder "scan" with three folders of a batch."""
    for number in range(3):
        one = folder / "scan" / f"case-{number}"
        one.mkdir(parents=True)
        (one / "input.dat").write_text(f"{number}\n")
    return folder / "scan"


def begin(cases, *arguments, stdout=subprocess.PIPE, **settings):
    """Start the client and do not wait for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "leruli", *arguments],
        cwd=cases,
        env={**os.environ, "PYTHONPATH": str(CLI), **settings},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def job_of(folder):
    return (folder / "leruli.job").read_text().strip()


def ended(process, seconds=60):
    """Wait for a client; return its exit code and what it printed."""
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output, errors


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def check_each_once(cases, queue, group, count=COUNT):
    """Check that every folder has its own job, and that there is no other job."""
    found = queue.sql("SELECT id, bucket FROM jobs WHERE group_id = $1", group.id)
    by_bucket = {row["bucket"]: str(row["id"]) for row in found}
    assert len(by_bucket) == count
    folders = {
        (path / "leruli.bucket").read_text().strip(): job_of(path) for path in cases.glob("case-*")
    }
    assert folders == by_bucket


def set_states(queue, group, state, folders):
    jobs = [job_of(folder) for folder in folders]
    queue.sql(
        "UPDATE jobs SET state = $1::job_state, ended_at = now(), reason = 'exit code 3' "
        "WHERE group_id = $2 AND id = ANY($3::uuid[])",
        *(state, group.id, jobs),
    )


def later(seconds, *arguments):
    """Call `set_states` after so many seconds."""
    timer = threading.Timer(seconds, set_states, arguments)
    timer.start()
    return timer
