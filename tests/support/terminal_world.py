"""The client on a terminal of a given width, and the text that a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

CLI = Path(__file__).parents[2] / "cli"

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# An escape sequence or a character that moves the cursor or erases text.
_MOVES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|[\r\n]")


@dataclass
class Shown:
    """The output on the terminal, and the exit code."""

    raw: str
    returncode: int

    @property
    def lines(self) -> list[str]:
        """The lines that a person sees."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n").splitlines()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def left(self) -> list[str]:
        """The lines that stay on the terminal, without erased or overwritten text.

        Long lines are whole, as if the terminal were as wide as they are.
        """
        screen = [""]
        row = column = end = 0
        for move in [*_MOVES.finditer(self.raw), None]:
            text = self.raw[end : move.start() if move else None]
            line = screen[row].ljust(column)
            screen[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
            if move is None:
                break
            end = move.end()
            if move[0] == "\r":
                column = 0
            elif move[0] == "\n":
                row += 1
                screen.extend([""] * (row + 1 - len(screen)))
            elif move[2] == "A":
                row = max(0, row - int(move[1] or 1))
            elif move[2] == "K":
                screen[row] = "" if move[1] == "2" else screen[row][:column]
        return [line.expandtabs().rstrip() for line in "\n".join(screen).rstrip("\n").split("\n")]

    def check_width(self, columns: int) -> None:
        """Check that no line is so long that the terminal would break it."""
        assert [line for line in self.lines if cell_len(line) > columns] == []


def on_terminal(
    *arguments: str, columns: int = 80, cwd: Path, typed: str = "", **settings: str
) -> Shown:
    """Run the client with all its streams on a terminal; `typed` is what a person types."""
    environment = {**os.environ, "PYTHONPATH": str(CLI), **settings}
    client = [sys.executable, "-m", "leruli", *arguments]
    return run_on_terminal(client, environment, columns=columns, cwd=cwd, typed=typed)


def run_on_terminal(
    command: list[str],
    environment: dict[str, str],
    *,
    columns: int = 80,
    cwd: Path,
    typed: str = "",
) -> Shown:
    """Run a command with all its streams on a terminal; `typed` is what a person types."""
    master, process = _start(command, environment, columns, cwd)
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


def _start(
    command: list[str], environment: dict[str, str], columns: int, cwd: Path
) -> tuple[int, subprocess.Popen[bytes]]:
    """Start a command on a new terminal; return the terminal's other side, and the process."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {"TERM": "xterm-256color", **environment}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
    finally:
        os.close(slave)
    return master, process


class Terminal:
    """The client on a terminal that is its own, where Ctrl-C is a signal, while a person types."""

    def __init__(self, *arguments: str, cwd: Path, columns: int = 80) -> None:
        client = [sys.executable, "-c", _OWN_TERMINAL, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(CLI)}
        self._master, self._process = _start(client, environment, columns, cwd)
        self._shown = self._seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Type; the text that was shown before is not found by `wait_for` again."""
        self._shown, self._seen = self._shown + self._seen, b""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until the terminal shows a text."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self._seen:
            assert self._read(deadline - time.monotonic()), f"{text!r} not in {self._seen!r}"

    def ended(self, seconds: float = 60) -> Shown:
        """Wait for the end; return everything that was shown, and the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline - time.monotonic()):
            pass
        raw = (self._shown + self._seen).decode("utf-8", "replace")
        return Shown(raw, self._process.wait(max(0.0, deadline - time.monotonic())))

    def _read(self, seconds: float) -> bool:
        """Read what comes; return whether there was anything before the end."""
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return False
        try:
            part = os.read(self._master, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self._seen += part
        return bool(part)


# Makes standard input the terminal of this session, as a login does, then becomes the client.
_OWN_TERMINAL = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv[0] = "leruli"
runpy.run_module("leruli", run_name="__main__", alter_sys=True)
"""
