"""setup/python.sh: which Python it chooses for the virtual environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Script = Callable[..., subprocess.CompletedProcess[str]]
Program = Callable[[str, str], Path]

REAL = os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def test_it_skips_a_shim_whose_version_is_not_enabled(script: Script, program: Program) -> None:
    program("python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    program("python3.13", "exit 127")
    program("python3.12", "exit 127")
    program("python3.11", f'exec {REAL} "$@"')
    done = script("setup/python.sh")
    assert done.returncode == 0
    assert done.stdout.strip() == REAL


def test_a_named_python_that_is_too_old_is_not_replaced_by_another(
    script: Script, program: Program
) -> None:
    old = program("old", "exit 1")
    done = script("setup/python.sh", LERULI_QUEUE_PYTHON=str(old))
    assert (done.returncode, done.stdout) == (1, "")
