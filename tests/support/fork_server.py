"""Processes of our programs, forked from one that has imported them.

A call of the client that does little takes 0.67 s of processor time, and 0.07 s when it is forked.
The rest is the start of Python and the imports. The tests start client and agent more than a
thousand times.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Python reads these when it starts, so a call with another value of one needs a start of its own.
_READ_AT_START = ("PYTHON", "LC_", "LANG")
_WIDTH = 10


class ForkedProcess:
    """As a Popen: a process that was forked elsewhere.

    `status` tells its id, then its exit code; each takes _WIDTH bytes.
    """

    def __init__(self, status: int) -> None:
        self._status = status
        self.pid = int(os.read(status, _WIDTH))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(os.read(self._status, _WIDTH))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Start `python -m PACKAGE` without starting Python."""

    def __init__(self, package: str, environment: Mapping[str, str]) -> None:
        self._package = package
        self._environment = environment
        self._line, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far_end:
            self._process = subprocess.Popen(
                [sys.executable, __file__, package, str(far_end.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[far_end.fileno()],
            )

    def close(self) -> None:
        self._line.close()
        self._process.wait(30)

    def start(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], out: int, err: int
    ) -> ForkedProcess | subprocess.Popen[bytes]:
        """Start it with these files as its output and nothing to read."""
        if _of_start(env) != _of_start(self._environment):
            return subprocess.Popen(
                [sys.executable, "-m", self._package, *arguments],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        wanted = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(env)}
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._line, [json.dumps(wanted).encode()], [out, err, writing])
        finally:
            os.close(writing)
        return ForkedProcess(reading)

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run it and wait for its end, as subprocess.run does."""
        with contextlib.ExitStack() as files:
            out, err = (files.enter_context(_memory_file(name)) for name in ("out", "err"))
            process = self.start(arguments, cwd=cwd, env=env, out=out, err=err)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            return subprocess.CompletedProcess(list(arguments), code, _text(out), _text(err))


@contextlib.contextmanager
def _memory_file(name: str) -> Iterator[int]:
    file = os.memfd_create(name)
    try:
        yield file
    finally:
        os.close(file)


def _text(file: int) -> str:
    output = os.pread(file, os.fstat(file).st_size, 0)
    return output.decode().replace("\r\n", "\n").replace("\r", "\n")


def _of_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: value for k, value in environment.items() if k.startswith(_READ_AT_START)}


@contextlib.contextmanager
def fork_server(package: str, environment: Mapping[str, str]) -> Iterator[ForkServer]:
    made = ForkServer(package, environment)
    try:
        yield made
    finally:
        made.close()


def _import_all(package: str) -> None:
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _serve(line: socket.socket) -> Sequence[str]:
    """Fork at each request; return in the fork, with the arguments for the program."""
    while True:
        data, files, _, _ = socket.recv_fds(line, 1 << 20, 3)
        if not data:
            os._exit(0)
        if os.fork():
            for file in files:
                os.close(file)
            continue
        # This fork waits for the program, and tells its id and how it ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line.close()
        out, err, status = files
        program = os.fork()
        if program:
            os.write(status, f"{program:{_WIDTH}}".encode())
            os.close(out)
            os.close(err)
            _, ended = os.waitpid(program, 0)
            os.write(status, f"{os.waitstatus_to_exitcode(ended):{_WIDTH}}".encode())
            os._exit(0)
        os.close(status)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for file in {out, err}:
            os.close(file)
        wanted = json.loads(data)
        os.environ.clear()
        os.environ.update(wanted["environment"])
        os.chdir(wanted["cwd"])
        return list(wanted["arguments"])


if __name__ == "__main__":
    _package = sys.argv[1]
    with socket.socket(fileno=int(sys.argv[2])) as _line:
        _import_all(_package)
        # The collector leaves these objects alone, so that the forks share their memory.
        gc.collect()
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        sys.argv[1:] = _serve(_line)
    # As `python -m` has it.
    sys.path[0] = str(Path.cwd())
    runpy.run_module(_package, run_name="__main__", alter_sys=True)
