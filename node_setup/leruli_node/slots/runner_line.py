"""The line between the agent and leruli-runner, the first process of a shared container.

Lines are JSON objects: node_setup/runner/protocol.go. The socket is in the container's control
folder, where a job can connect too. So a connection counts only if the kernel says that it comes
from the container's first process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOCKET = "agent.sock"
# Bytes of a report. The runner's are a few hundred.
_LONGEST = 65_536
# A job may fill the queue of connections. The runner then tries again within a second.
_BACKLOG = 64
# Seconds for which an order may wait until the runner reads it.
_ORDER_TIMEOUT_S = 5.0


class LineLostError(Exception):
    """The connection is gone, or the runner said something that is no report."""


@dataclass(frozen=True)
class RunnerEnd:
    """How a job ended, as the runner reports it."""

    exit_code: int
    wall_s: float
    cpu_s: float
    oom_kills: int
    peak_bytes: int
    largest_process_bytes: int
    # Why the container must not run another job, "" if it may.
    unclean: str

    @classmethod
    def parse(cls, values: dict[str, Any]) -> RunnerEnd:
        """Raise ValueError, TypeError or KeyError if this is no report of an end."""
        return cls(
            exit_code=int(values["exitcode"]) & 0xFF,
            wall_s=max(0.0, float(values["wallseconds"])),
            cpu_s=max(0.0, float(values["cpuseconds"])),
            oom_kills=max(0, int(values["oomkills"])),
            peak_bytes=max(0, int(values["peakbytes"])),
            largest_process_bytes=max(0, int(values["largestprocessbytes"])),
            unclean=str(values.get("unclean") or "")[:200],
        )


@dataclass(frozen=True)
class Report:
    """What the runner says about its present job: `state` is idle, running or ended."""

    state: str
    job: str = ""
    end: RunnerEnd | None = None
    # Why the last order was not obeyed.
    refused: str = ""

    @classmethod
    def parse(cls, line: bytes) -> Report:
        """Raise LineLostError if the line is no report."""
        try:
            said = json.loads(line)
            end = said.get("end")
            return cls(
                str(said["state"]),
                str(said.get("id") or ""),
                None if end is None else RunnerEnd.parse(end),
                str(said.get("refused") or "")[:200],
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LineLostError("not a report") from error


class Line:
    """A connection of a runner. One thread reads; any thread gives orders."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)
        self._buffer = b""
        self._writing = threading.Lock()

    def order(self, do: str, job: str, **more: Any) -> None:
        """Give an order. Raises LineLostError."""
        data = json.dumps({"do": do, "id": job, **more}).encode() + b"\n"
        deadline = time.monotonic() + _ORDER_TIMEOUT_S
        with self._writing:
            while data:
                try:
                    data = data[self._connection.send(data) :]
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LineLostError("the runner reads nothing") from None
                    select.select([], [self._connection], [], 0.1)
                except OSError as error:
                    raise LineLostError(str(error)) from None

    def report(self, timeout: float) -> Report | None:
        """Return the next report, None if there is none for so long. Raises LineLostError."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            try:
                poll = select.poll()
                poll.register(self._connection, select.POLLIN)
                if not poll.poll(max(0.0, left) * 1000):
                    return None
                data = self._connection.recv(_LONGEST)
            except BlockingIOError:
                continue
            except (OSError, ValueError) as error:
                raise LineLostError(str(error)) from None
            if not data or len(self._buffer) > _LONGEST:
                raise LineLostError("closed")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return Report.parse(line)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RunnerSocket:
    """The agent's socket in a control folder, open only until the runner is connected."""

    def __init__(self, control: Path) -> None:
        # sockaddr_un holds a short path only, and LERULI_NODE_DIR may be long.
        folder = os.open(control, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{folder}/{SOCKET}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._listener.bind(path)
                # For the user of any image. Without write permission it cannot connect.
                os.chmod(path, 0o777)  # noqa: S103
                self._listener.listen(_BACKLOG)
            except BaseException:
                self._listener.close()
                raise
        finally:
            os.close(folder)

    def accept(self, pid: int, timeout: float) -> Line | None:
        """Return the connection of the process `pid`, None if it does not come in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self._listener.settimeout(left)
            try:
                connection, _ = self._listener.accept()
            except socket.timeout:
                return None
            facts = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", facts)[0] == pid:
                return Line(connection)
            connection.close()
        return None

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
