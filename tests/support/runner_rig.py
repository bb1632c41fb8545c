"""A shared container of the real Docker with leruli-runner in it; the test is the node agent."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from objects_world import find_program

_TIMEOUT_S = 30.0


class Line:
    """The agent's end of a connection from a runner."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(_TIMEOUT_S)
        self._lines = connection.makefile("rb")

    @property
    def peer_pid(self) -> int:
        facts = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", facts)[0])

    def order(self, do: str, job: str, **more: Any) -> None:
        self._connection.sendall(json.dumps({"do": do, "id": job, **more}).encode() + b"\n")

    def report(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the runner closed the connection"
        return dict(json.loads(line))

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


class SharedContainer:
    """A container whose first process is the runner, and the folder that it runs jobs in."""

    def __init__(self, folder: Path, image: str, memory: str) -> None:
        self.socket_path = folder / "control" / "agent.sock"
        self.rundir = folder / "rundir"
        self.rundir.mkdir()
        self.rundir.chmod(0o777)
        control = folder / "control"
        control.mkdir()
        control.chmod(0o777)
        shutil.copy(find_program("LERULI_QUEUE_RUNNER", "leruli-runner"), control / "runner")
        self.listen()
        self.container = docker.from_env().containers.run(
            image,
            entrypoint=["/leruli/runner", "/leruli/agent.sock"],
            detach=True,
            network_mode="none",
            mem_limit=memory,
            memswap_limit=memory,
            security_opt=["no-new-privileges"],
            working_dir="/rundir",
            volumes=[f"{self.rundir}:/rundir", f"{control}:/leruli"],
        )
        self.line = self.accept()
        assert self.line.report() == {"state": "idle"}
        self.container.reload()
        self.pid = int(self.container.attrs["State"]["Pid"])

    def listen(self) -> None:
        self.socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.socket_path))
        self.socket_path.chmod(0o777)
        self._listener.listen()
        self._listener.settimeout(_TIMEOUT_S)

    def accept(self) -> Line:
        return Line(self._listener.accept()[0])

    def lose_line(self) -> None:
        """End the agent: nobody listens, and the connection is closed."""
        self._listener.close()
        self.line.close()

    def begin(self, job: str, command: str, environment: Sequence[str] = ()) -> dict[str, Any]:
        for left in self.rundir.iterdir():
            left.unlink()
        (self.rundir / "run.sh").write_text(command)
        self.line.order("run", job, environment=list(environment))
        return self.line.report()

    def run(self, job: str, command: str, environment: Sequence[str] = ()) -> dict[str, Any]:
        """Run a job to its end and return how it ended."""
        assert self.begin(job, command, environment) == {"state": "running", "id": job}
        done = self.line.report()
        assert (done["state"], done["id"]) == ("ended", job)
        return dict(done["end"])

    @property
    def output(self) -> str:
        return (self.rundir / "joblog.txt").read_text()


@contextmanager
def shared_container(image: str, memory: str = "64m") -> Iterator[SharedContainer]:
    # Not below pytest's own folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="runner-", dir=os.environ.get("TMPDIR", "/tmp")))
    folder.chmod(0o755)
    shared = None
    try:
        shared = SharedContainer(folder, image, memory)
        yield shared
    finally:
        if shared is not None:
            shared.container.remove(force=True)
        shutil.rmtree(folder, ignore_errors=True)


def in_namespaces(pid: int, flags: str, program: str, *arguments: str) -> list[str]:
    """A command that runs a Python program of the host in namespaces of a container."""
    inside = ["nsenter", flags, f"--target={pid}"]
    return [*inside, sys.executable, "-c", program, *arguments]


def busybox_context() -> io.BytesIO:
    """What Docker builds the image from: the static busybox of this machine."""
    data = io.BytesIO()
    recipe = (
        b'FROM scratch\nADD busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
    )
    recipe += b"RUN mkdir -p /tmp /var/tmp && chmod 1777 /tmp /var/tmp\n"
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add("/bin/busybox", "busybox")
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(recipe)
        archive.addfile(entry, io.BytesIO(recipe))
    data.seek(0)
    return data
