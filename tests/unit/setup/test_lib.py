"""setup/lib.sh: messages, versions, steps."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]
HEAD = "set -euo pipefail; source setup/lib.sh; "


@pytest.mark.parametrize(
    ("version", "minimum", "enough"),
    [
        ("1.11.3", "1.11", True),
        ("1.11", "1.11", True),
        ("1.9.7", "1.11", False),
        ("2.0", "1.11", True),
        ("1.26.8", "1.25.8", True),
        ("1.25.7", "1.25.8", False),
    ],
)
def test_version_ge(script: Script, version: str, minimum: str, enough: bool) -> None:
    done = script("bash", "-c", HEAD + f"version_ge {version} {minimum}")
    assert (done.returncode == 0) is enough


def test_elapsed(script: Script) -> None:
    assert script("bash", "-c", HEAD + "elapsed 59; echo; elapsed 130").stdout == "59 s\n2 min 10 s"


def test_a_step_is_printed_and_recorded(script: Script, tmp_path: Path) -> None:
    steps = tmp_path / "steps"
    done = script("bash", "-c", HEAD + "step 'doing it' echo quiet", LERULI_QUEUE_STEPS=str(steps))
    assert done.returncode == 0
    assert re.fullmatch(r"==> doing it\n    done in \d+ s\n", done.stdout)
    assert re.fullmatch(r"\d+\tdoing it\n", steps.read_text())
    assert list((tmp_path / "cache/logs").iterdir()) == []


def test_a_failed_step_shows_its_output_and_ends_the_script(script: Script, tmp_path: Path) -> None:
    done = script("bash", "-c", HEAD + "fail() { echo why; return 7; }; step trying fail; echo on")
    assert done.returncode == 1
    assert "    | why\n" in done.stderr
    assert "trying failed with exit code 7" in done.stderr
    assert "on" not in done.stdout.splitlines()
    (log,) = (tmp_path / "cache/logs").iterdir()
    assert log.read_text() == "why\n"
    assert str(log) in done.stderr
