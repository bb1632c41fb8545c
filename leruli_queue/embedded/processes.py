"""Child processes of the stack: started, watched, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leruli_queue.embedded.folders import write_private
from leruli_queue.errors import SetupError

_LAST_LINES = 15


@dataclass
class Part:
    """A process of the stack.

    It ends with the stack in all cases: the kernel sends it ``end_signal`` when its parent dies
    (setpriv --pdeathsig).
    """

    name: str
    arguments: Sequence[str | Path]
    environment: Mapping[str, str]
    log: Path
    end_signal: signal.Signals = signal.SIGTERM
    # Seconds from end_signal to SIGKILL.
    stop_timeout_s: float = 15.0
    # The exit code that says that a restart is useless.
    final_code: int | None = None
    # Removes leftovers of a killed process that would stop the next one from starting.
    clear: Callable[[], None] = lambda: None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, with its output in its log."""
        self.clear()
        command = ["setpriv", "--pdeathsig", self.end_signal.name.removeprefix("SIG"), "--"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *(str(argument) for argument in self.arguments)],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # So Ctrl-C reaches only the stack, which ends its parts in order.
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def is_over(self) -> bool:
        """Whether it ended with its final code."""
        return (
            self.final_code is not None
            and self.process is not None
            and self.process.poll() == self.final_code
        )

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it is ready.

        Raises
        ------
        SetupError
            When it ends before, or is not ready in time. The message has the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_alive:
                raise SetupError(f"{self.name} ended at its start. {self._end_of_log()}")
            if time.monotonic() > deadline:
                raise SetupError(
                    f"{self.name} is not ready after {seconds:.0f} s. {self._end_of_log()}"
                )
            time.sleep(0.03)

    def stop(self) -> None:
        """End it and wait until it is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.end_signal)
        try:
            self.process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _end_of_log(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f"The end of {self.log}:\n" + "\n".join(f"  {x}" for x in lines[-_LAST_LINES:])


def note_started(path: Path, parts: Sequence[Part]) -> None:
    """Write down which processes run, for :func:`end_left_overs`."""
    running = {
        part.name: [part.process.pid, start_time(part.process.pid), int(part.end_signal)]
        for part in parts
        if part.process is not None and part.is_alive
    }
    write_private(path, json.dumps(running) + "\n")


def end_left_overs(path: Path) -> list[str]:
    """End parts that an earlier stack of this folder left running; return their names."""
    try:
        noted: dict[str, tuple[int, str, int]] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    # A process id may be reused by now. Together with its start time it is certain.
    ours = {
        name: (pid, end_signal)
        for name, (pid, started, end_signal) in noted.items()
        if started and start_time(pid) == started
    }
    for pid, end_signal in reversed(ours.values()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, end_signal)
    deadline = time.monotonic() + 20
    while any(start_time(noted[name][0]) == noted[name][1] for name in ours):
        if time.monotonic() > deadline:
            for pid, _ in ours.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    path.unlink(missing_ok=True)
    return list(ours)


def start_time(pid: int) -> str:
    """Return the start time of a process in the kernel's ticks; empty if it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
