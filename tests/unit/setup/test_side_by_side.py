"""setup/side_by_side.sh: a failure fails it, outputs do not mix, no process outlives it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]


def test_all_commands_run_to_their_end_and_their_outputs_do_not_mix(script: Script) -> None:
    slow = "echo slow begins; sleep 1.5; echo slow ends"
    done = script("setup/side_by_side.sh", slow, "echo quick begins; sleep 0.5; echo quick ends")
    assert done.returncode == 0, done.stderr
    assert "\nquick begins\nquick ends\n" in done.stdout
    assert "\nslow begins\nslow ends\n" in done.stdout
    assert done.stdout.index("\nquick ends") < done.stdout.index("\nslow begins")


def test_one_failure_fails_it_after_all_commands_have_ended(script: Script) -> None:
    done = script("setup/side_by_side.sh", "sleep 1; echo whole", "echo broken; exit 3", "true")
    assert done.returncode == 1
    assert "\nwhole\n" in done.stdout
    assert "echo broken; exit 3: exit code 3 after" in done.stdout
    assert "error: failed: echo broken; exit 3.\n" in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_all_commands(
    tree: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    notes = [tmp_path / "first", tmp_path / "second"]
    commands = [
        # It ends as pytest does: it signals its children, then waits for them.
        f"trap 'echo ended >>{note}; exit 1' INT; sleep 300 & echo $! >{note}; wait"
        for note in notes
    ]
    process = subprocess.Popen(
        ["setup/side_by_side.sh", *commands],
        cwd=tree,
        stdout=subprocess.DEVNULL,
        # A shell's background process ignores INT, and a script cannot undo that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while not all(note.exists() and note.read_text().strip() for note in notes):
        assert time.monotonic() < deadline, "the commands did not start"
        time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(20) == code
    for note in notes:
        child, ended = note.read_text().split()
        assert ended == "ended"
        stat = Path("/proc") / child / "stat"
        while stat.exists() and "Z" not in stat.read_text().split()[2]:
            assert time.monotonic() < deadline, "a child process still runs after the end"
            time.sleep(0.05)
