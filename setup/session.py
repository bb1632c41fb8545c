"""Run the client on a running stack, and write its terminal as SVG.

    leruli-queue up --detach --data .demo && source .demo/env.sh
    .venv/bin/python setup/session.py docs/session.svg

It submits psi4 in three folders, waits, and fetches, as in docs/users/many-calculations.md.
psi4:1.3.2 must be published, as `make demo` does.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

_COLUMNS = 80
_LONGEST_S = 300.0
_INPUT = "molecule {{\nH\nF 1 {length}\n}}\nset basis sto-3g\nenergy('scf')\n"
_LENGTHS = ("0.90", "0.95", "1.00")
_SUBMIT = "leruli task-submit --batch 'hf-*' --memory 500 psi4 1.3.2 psi4 input.dat"
_STATUS = "leruli task-status --batch 'hf-*'"
_FETCH = "leruli task-get --batch 'hf-*'"
_READ = "grep -o 'Total Energy =.*' hf-*/output.dat"
# The SVG's default fonts come from another host. Use a font of the reader's machine instead.
_FONT_FACES = re.compile(r"@font-face \{\{.*?\}\}", re.DOTALL)


def main(target: Path) -> None:
    """Run the session and write it to `target`."""
    shown: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for length in _LENGTHS:
            case = Path(folder) / f"hf-{length}"
            case.mkdir()
            (case / "input.dat").write_text(_INPUT.format(length=length))
        for command in (_SUBMIT, _STATUS):
            shown += [_prompt(command), _run(command, folder)]
        deadline = time.monotonic() + _LONGEST_S
        while f"{len(_LENGTHS)} completed" not in _run(_STATUS, folder):
            if time.monotonic() > deadline:
                sys.exit(f"The jobs did not complete within {_LONGEST_S:.0f} s.")
            time.sleep(1)
        for command in (_STATUS, _FETCH, _READ):
            shown += [_prompt(command), _run(command, folder)]
    target.write_text(_svg("".join(shown)), encoding="utf-8")


def _prompt(command: str) -> str:
    return f"\x1b[1;32m$\x1b[0m {command}\n"


def _run(command: str, folder: str) -> str:
    """Return the terminal's content after the command, without overwritten lines."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": str(_COLUMNS), "LINES": "40", "TERM": "xterm-256color"}
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ):
        os.close(slave)
        raw = b""
        # On Linux, reading from a terminal that no process has open is an error.
        try:
            while chunk := os.read(master, 65536):
                raw += chunk
        except OSError:
            pass
        os.close(master)
    text = raw.decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [re.split(r"\r|\x1b\[\d*[AK]|\x1b\[2K", line)[-1] for line in text.split("\n")]
    kept = [line for line in lines if re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip()]
    return "".join(f"{line}\n" for line in kept)


def _svg(shown: str) -> str:
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown))
    return console.export_svg(
        title="leruli",
        code_format=_FONT_FACES.sub("", CONSOLE_SVG_FORMAT).replace(
            "Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', monospace"
        ),
        unique_id="session",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
