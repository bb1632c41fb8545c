"""The unix socket on which the task driver asks for stage-in and stage-out."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from leruli_node.errors import StoppedError
from leruli_node.model import AttemptId

log = logging.getLogger(__name__)

EX_USAGE = 64
# Pause after a connection could not be accepted, in seconds.
_PAUSE = 0.5


class Answer(NamedTuple):
    """An exit code, 0 for success, and a sentence about it."""

    code: int
    sentence: str = ""


Handler = Callable[[AttemptId, str], Answer]


class StageServer:
    """Serves the task driver, one thread for each request. Only this user and root may connect."""

    def __init__(self, path: Path, stage_in: Handler, stage_out: Handler, end: Handler) -> None:
        self._path = path
        self._handlers = {"in": stage_in, "out": stage_out, "end": end}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Listen.

        An existing socket file is from an agent that is gone, as this one holds the lock.
        """
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(256)
        threading.Thread(target=self._accept, name="stage-server", daemon=True).start()

    def stop(self) -> None:
        """Stop listening. The driver asks again until an agent is back."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                self._accept_one()
            except (OSError, RuntimeError) as error:
                if self._stopped.is_set():
                    return
                # A lack of files or threads is temporary. Without this loop no job would be staged
                # any more.
                log.error("a stage request cannot be accepted: %s; trying again", error)
                self._stopped.wait(_PAUSE)

    def _accept_one(self) -> None:
        connection, _ = self._listener.accept()
        try:
            threading.Thread(
                target=self._serve, args=(connection,), name="stage", daemon=True
            ).start()
        except RuntimeError:
            connection.close()  # the driver asks again
            raise

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if not _is_ours(connection):
                    return
                connection.settimeout(10.0)
                line = _read_line(connection)
                connection.settimeout(None)
            except OSError:
                return
            try:
                answer = self._answer(line)
            except StoppedError:
                # Without an answer the task asks again; the next agent then answers.
                return
            except Exception:
                # No answer either: when the task asks again, the cause may be gone.
                log.exception("a stage request failed unexpectedly")
                return
            # Nomad may have stopped the task. The work for it stays valid.
            with contextlib.suppress(OSError):
                line = " ".join(f"{answer.code} {answer.sentence}".split())
                connection.sendall(line.encode("utf-8", "backslashreplace") + b"\n")

    def _answer(self, line: str) -> Answer:
        words = line.split(" ")
        try:
            direction, job, number, alloc = words
            handler = self._handlers[direction]
            attempt = AttemptId.parse(job, number)
        except (ValueError, KeyError):
            return Answer(EX_USAGE, "this is not a stage request")
        return handler(attempt, alloc)


def _is_ours(connection: socket.socket) -> bool:
    size = struct.calcsize("3i")
    facts = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", facts)
    return uid in (0, os.getuid())


def _read_line(connection: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n"):
        some = connection.recv(4096)
        if not some or len(line) > 4096:
            return ""
        line += some
    return line.decode("utf-8", "replace").strip()
