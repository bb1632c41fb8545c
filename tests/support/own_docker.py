"""A dockerd of a test's own, which the test may kill: in its own folder, beside the machine's."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import DockerException
from node_rig import wait_for

# With --bridge=none a dockerd removes docker0, which the machine's dockerd needs. So it has a
# network namespace of its own, where nothing of the machine's is.
_OWN_NETWORK = ("unshare", "--net")
_NO_NETWORK = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--userland-proxy=false",
)
# The kernel keeps 15 characters of a program's name.
_SHIM = "containerd-shim-runc-v2"[:15]


class OwnDocker:
    """One dockerd with its containerd. Paths are short: its sockets have at most 107 characters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*_OWN_NETWORK, "dockerd", "--host", f"unix://{self.socket}"),
                    *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
                    *("--pidfile", self.folder / "pid", *_NO_NETWORK),
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, 60, "a dockerd of the test's own")

    def kill(self) -> None:
        """Kill it. Its containers run on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        # Its containerd ends with it. The next dockerd takes a zombie for a living containerd.
        containerd = int((self.folder / "exec/containerd/containerd.pid").read_text())
        wait_for(lambda: not psutil.pid_exists(containerd), 20, "the end of its containerd")

    def client(self) -> Any:
        """Return a client of it."""
        return docker.DockerClient(base_url=f"unix://{self.socket}")

    def close(self) -> None:
        """End it with all its containers, and leave nothing mounted."""
        if self._process is not None and self._process.poll() is None:
            for container in self.client().containers.list(all=True, ignore_removed=True):
                container.remove(force=True, v=True)
            self._process.terminate()
            self._process.wait(60)
        for shim in self._shims():
            for process in (*shim.children(recursive=True), shim):
                process.kill()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            point = line.split(" ")[1]
            if point.startswith(f"{self.folder}/"):
                subprocess.run(["umount", point], check=False)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            return bool(self.client().ping())
        except (DockerException, OSError):
            return False

    def _shims(self) -> list[psutil.Process]:
        """Return the parents of its containers, by the folder that their command line names."""
        named = f"{self.folder}/"
        return [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == _SHIM
            and any(named in word for word in process.info["cmdline"] or [])
        ]


@contextmanager
def own_docker() -> Iterator[OwnDocker]:
    """Run a dockerd until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="own-docker-") as folder:
        # Users of images pass through it.
        Path(folder).chmod(0o711)
        made = OwnDocker(Path(folder))
        had_bridge = _machine_has_bridge()
        try:
            made.start()
            assert _machine_has_bridge() == had_bridge
            yield made
        finally:
            made.close()


def _machine_has_bridge() -> bool:
    """Tell whether the bridge of the machine's own dockerd is there."""
    return "docker0" in psutil.net_if_addrs()
