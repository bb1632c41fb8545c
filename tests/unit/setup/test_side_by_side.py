"""setup/side_by_side.sh: one that fails fails it, nothing is mixed, and nothing outlives it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]


def test_all_run_to_their_end_and_what_each_says_stays_together(script: Script) -> None:
    slow = "echo slow begins; sleep 1.5; echo slow ends"
    done = script("setup/side_by_side.sh", slow, "echo quick begins; sleep 0.5; echo quick ends")
    assert done.returncode == 0, done.stderr
    assert "\nquick begins\nquick ends\n" in done.stdout
    assert "\nslow begins\nslow ends\n" in done.stdout
    assert done.stdout.index("\nquick ends") < done.stdout.index("\nslow begins")


def test_one_that_fails_fails_it_after_the_others_have_ended(script: Script) -> None:
    done = script("setup/side_by_side.sh", "sleep 1; echo whole", "echo broken; exit 3", "true")
    assert done.returncode == 1
    assert "\nwhole\n" in done.stdout
    assert "echo broken; exit 3: exit code 3 after" in done.stdout
    assert "error: failed: echo broken; exit 3.\n" in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_lets_all_end(
    tree: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    notes = [tmp_path / "first", tmp_path / "second"]
    commands = [
        # Ends in order, as pytest does: what it started is told, then waited for.
        f"trap 'echo ended >>{note}; exit 1' INT; sleep 300 & echo $! >{note}; wait"
        for note in notes
    ]
    process = subprocess.Popen(
        ["setup/side_by_side.sh", *commands],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        # A test run in the background of a shell has it ignored, which a script cannot undo.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while not all(note.exists() and note.read_text().strip() for note in notes):
        assert time.monotonic() < deadline, "they did not start"
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(20) == code
    for note in notes:
        child, ended = note.read_text().split()
        assert ended == "ended"
        stat = Path("/proc") / child / "stat"
        while stat.exists() and "Z" not in stat.read_text().split()[2]:
            assert time.monotonic() < deadline, "what it started went on after its end"
            time.sleep(0.05)
