"""The client on a terminal of a given width, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

CLI = Path(__file__).parents[1] / "cli"

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Shown:
    """What came on the terminal, and the exit code."""

    raw: str
    returncode: int

    @property
    def lines(self) -> list[str]:
        """The lines that a person sees."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n").splitlines()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def check_width(self, columns: int) -> None:
        """No line is so long that the terminal would break it."""
        assert [line for line in self.lines if cell_len(line) > columns] == []


def on_terminal(
    *arguments: str, columns: int = 80, cwd: Path, typed: str = "", **settings: str
) -> Shown:
    """Run the client with all its streams on a terminal; `typed` is what a person types."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(CLI), "TERM": "xterm-256color", **settings}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-m", "leruli", *arguments],
        cwd=cwd,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    if typed:
        os.write(master, typed.encode())
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(master)
    return Shown(b"".join(parts).decode("utf-8", "replace"), process.wait(60))
