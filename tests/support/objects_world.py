"""The stack's real S3 server for tests, and the search for our programs."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from leruli_queue.embedded.ports import free_ports


@dataclass(frozen=True)
class S3Server:
    """A running server and a key for it."""

    url: str
    access: str
    secret: str
    root: Path  #: where the objects are, as files
    kill: Callable[[], None]  #: end it as a crash of its machine would
    start: Callable[[], None]  #: start it again and wait until it answers
    key: dict[str, str]  #: the variables with the key that it takes from its next start on


def find_program(variable: str, name: str) -> str:
    """Return the program named by the variable, else beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = os.environ.get(variable) or (str(beside) if beside.exists() else shutil.which(name))
    if not found:
        raise RuntimeError(f"no {name}: run `make tools`, or set {variable}")
    return found


@contextlib.contextmanager
def running_objects(folder: Path) -> Iterator[S3Server]:
    """Start the server with its data in `folder`; stop it when the block ends."""
    program, root = find_program("LERULI_QUEUE_OBJECTS", "leruli-objects"), folder / "objects"
    root.mkdir(parents=True)
    access, secret = "access-" + secrets.token_hex(8), secrets.token_hex(20)
    key = {"LERULI_OBJECTS_ACCESS": access, "LERULI_OBJECTS_SECRET": secret}
    [port] = free_ports(1)
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (folder / "log").open("ab") as log:
            running.append(
                subprocess.Popen(
                    [program, "-listen", f"127.0.0.1:{port}", "-folder", root],
                    env={**os.environ, **key},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
        _wait_for(lambda: _answers(port))

    def kill() -> None:
        process = running.pop()
        process.kill()
        process.wait()

    try:
        start()
        yield S3Server(f"http://127.0.0.1:{port}", access, secret, root, kill, start, key)
    finally:
        for process in running:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("leruli-objects did not start; see its log")
        time.sleep(0.02)
