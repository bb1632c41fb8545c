"""Machines made of namespaces, for tests of the scripts that make a machine a node.

A ``Network`` is a bridge on this machine; its address is where the service listens. A ``Host`` on
it is a separate machine for its processes: network, processes, mounts, users, files (see
host_init.py). Rootless Docker works in it, without systemd.

Nothing stays after the tests, however they end: a host's process 1 dies with the test run, and with
it its processes, mounts and network. The next run removes bridges and folders of runs that were
killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from e2e_world import wait_for
from host_init import ON_DISK

_PREFIX = "lqnodes"
_INIT = Path(__file__).with_name("host_init.py")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command of this machine, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


@dataclass
class Host:
    """One machine on the network; ``start`` it first."""

    name: str
    network: Network
    number: int
    folder: Path
    pid: int = 0
    _init: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Its address on the network."""
        return self.network.address_of(self.number)

    @property
    def link(self) -> str:
        """The end of its cable on this machine."""
        return f"{_PREFIX[:3]}{os.getpid()}h{self.number}"

    # --- power and cable

    def start(self) -> None:
        """Power on: with its files, but without /run and processes."""
        command = ["unshare", "--mount", "--pid", "--uts", "--net", "--fork", "--kill-child"]
        command += ["--propagation", "private", sys.executable, "-I", str(_INIT)]
        self._init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, self.folder, self.name],
            stdin=subprocess.DEVNULL,
            stderr=(self.folder / "init.log").open("ab"),
            env={"PATH": _PATH},
        )
        wait_for(self._is_up, seconds=10, what=f"{self.name} is up")
        self._plug_in()

    def _is_up(self) -> bool:
        assert self._init is not None
        assert self._init.poll() is None, (self.folder / "init.log").read_text()
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text()
        if not children.strip():
            return False
        self.pid = int(children)
        with contextlib.suppress(OSError):
            return self.path("/run/host-is-up").exists()
        return False

    def _plug_in(self) -> None:
        peer = ("peer", "name", "eth0", "netns", str(self.pid))
        run("ip", "link", "add", self.link, "type", "veth", *peer)
        run("ip", "link", "set", self.link, "master", self.network.bridge, "up")
        within = ("nsenter", "-t", str(self.pid), "--net", "ip")
        run(*within, "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*within, "link", "set", "eth0", "up")
        # Nomad's client does not start without a default route.
        run(*within, "route", "add", "default", "via", self.network.address)

    def power_off(self) -> None:
        """Power off: all processes end at once."""
        if self._init is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 9)
        self._init.wait(20)
        self._init = None
        # The cable goes with the namespace, a moment later.
        wait_for(
            lambda: not Path(f"/sys/class/net/{self.link}").exists(), seconds=10, what="unplug"
        )

    def cut_network(self) -> None:
        """Pull the cable on this machine's side; the host keeps address and route."""
        run("ip", "link", "set", self.link, "down")

    def mend_network(self) -> None:
        """Plug it in again."""
        run("ip", "link", "set", self.link, "up")

    # --- doing something in it

    def command(self, *command: str | Path, user: str = "root") -> list[str]:
        """Return the command line that runs a command in it, as root or in a login like `su -`."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "--", "env", "-i"]
        inside += [f"PATH={_PATH}", "LANG=C.UTF-8", "TERM=dumb", "HOME=/root"]
        words = [str(word) for word in command]
        if user != "root":
            words = ["su", "-", user, "-c", 'exec "$@"', "--", "bash", *words]
        return [*inside, *words]

    def run(
        self, *command: str | Path, user: str = "root", check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        done = subprocess.run(
            self.command(*command, user=user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def shell(
        self, script: str, *, user: str = "root", check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Type lines into a shell in it."""
        return self.run("bash", "-c", script, user=user, check=check, timeout=timeout)

    def path(self, inside: str) -> Path:
        """A file of the host, as this machine reaches it while the host is up."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def processes(self, user: str = "leruli") -> list[str]:
        """Return the command lines of the processes of that user, without zombies."""
        listed = self.run("ps", "-u", user, "-o", "stat=,args=", check=False).stdout.splitlines()
        return [line.split(None, 1)[1] for line in listed if not line.startswith("Z")]

    def changes(self) -> list[str]:
        """Return the paths in its overlay and on its disk that a fresh machine does not have."""
        found = []
        for path in (self.folder / "changes/upper").rglob("*"):
            inside = Path("/") / path.relative_to(self.folder / "changes/upper")
            if path.is_dir() and (inside.is_dir() or inside.name in ON_DISK):
                continue
            if path.is_file() and inside.is_file() and path.read_bytes() == inside.read_bytes():
                continue
            found.append(str(inside))
        for name in ON_DISK:
            on_disk = self.folder / name
            found += [f"/{path.relative_to(self.folder)}" for path in on_disk.rglob("*")]
        return sorted(found)

    def close(self) -> None:
        """Power off and delete."""
        self.power_off()
        self.network.hosts.remove(self)
        subprocess.run(["umount", "-l", self.folder / "changes"], capture_output=True)
        shutil.rmtree(self.folder)


@dataclass
class Network:
    """A bridge with hosts on it; this machine has the first address."""

    folder: Path
    number: int = field(default_factory=lambda: 100 + os.getpid() % 100)
    hosts: list[Host] = field(default_factory=list)
    _last: int = 1

    @property
    def bridge(self) -> str:
        """The name of the bridge, which says which test run owns it."""
        return f"{_PREFIX}{os.getpid()}"

    @property
    def address(self) -> str:
        """This machine's address."""
        return self.address_of(1)

    def address_of(self, number: int) -> str:
        """The address of a host."""
        return f"10.213.{self.number}.{number}"

    def open(self) -> None:
        """Make the bridge."""
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", f"{self.address}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")

    def add(self, name: str) -> Host:
        """A fresh machine, powered on."""
        folder = self.folder / name
        (folder / "changes").mkdir(parents=True)
        (folder / "root").mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", name, folder / "changes")
        self._last += 1
        host = Host(name, self, self._last, folder)
        self.hosts.append(host)
        host.start()
        return host

    def close(self) -> None:
        """Delete all hosts and the bridge."""
        for host in list(self.hosts):
            host.close()
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network that is removed at the end of the block, whatever happens."""
    remove_left_overs()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    # Users of the hosts have to pass through.
    folder.chmod(0o755)
    made = Network(folder)
    try:
        made.open()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


def remove_left_overs() -> None:
    """Remove bridges and folders of test runs that were killed. Their hosts died with them."""
    for link in Path("/sys/class/net").iterdir():
        found = re.fullmatch(rf"{_PREFIX}(\d+)", link.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["ip", "link", "delete", link.name], capture_output=True)
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        found = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            for mounted in folder.glob("*/changes"):
                subprocess.run(["umount", "-l", mounted], capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)
