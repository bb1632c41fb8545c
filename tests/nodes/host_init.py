"""Process 1 of a host of the tests: makes its file systems, then reaps what it inherits.

    host_init.py FOLDER NAME      in namespaces of its own (mount, PID, UTS, network)

The machine's own root is below an overlay in memory, so whatever is changed in the host (users,
packages, settings) is the host's alone and gone with it. Docker's images and what is large are on
the disk, in FOLDER: overlayfs cannot stand on itself. /sys is the machine's own, because a fresh
one has no cgroups in it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# On the disk, so that it stays from one start of the host to the next.
ON_DISK = ("home", "data", "opt", "tmp")


def mount(*arguments: str) -> None:
    """mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def make_root(folder: Path) -> Path:
    """Mount the host's root below FOLDER and return it."""
    changes, root = folder / "changes", folder / "root"
    if not (changes / "upper").exists():
        for name in ("upper", "work"):
            (changes / name).mkdir()
    mount(
        *("-t", "overlay", "overlay"),
        *("-o", f"lowerdir=/,upperdir={changes}/upper,workdir={changes}/work", str(root)),
    )
    mount("--rbind", "/sys", f"{root}/sys")
    mount("--make-rslave", f"{root}/sys")
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "run", f"{root}/run")
    make_devices(root / "dev")
    for name in ON_DISK:
        (root / name).mkdir(exist_ok=True)
        (folder / name).mkdir(exist_ok=True)
        mount("--bind", f"{folder / name}", f"{root / name}")
    (root / "tmp").chmod(0o1777)
    return root


def make_devices(dev: Path) -> None:
    """The machine's devices, but a /dev/net/tun that the host can change the rights of."""
    mount("--rbind", "/dev", str(dev))
    mount("--make-rslave", str(dev))
    mount("-t", "tmpfs", "-o", "mode=755", "net", f"{dev}/net")
    os.mknod(dev / "net/tun", 0o20600, os.makedev(10, 200))


def enter(root: Path) -> None:
    """pivot_root and not chroot: in that no user namespace can be made."""
    old = root / "mnt"
    mount("-t", "tmpfs", "old", str(old))
    (old / "root").mkdir()
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "mnt/root"], check=True)
    os.chdir("/")
    subprocess.run(["umount", "-l", "/mnt/root"], check=True)
    subprocess.run(["umount", "/mnt"], check=True)


def main() -> None:
    """Become process 1 of the host. Does not return."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    socket.sethostname(name)
    enter(make_root(folder))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # TERM must not end process 1 of a host that drains; the tests end it with KILL.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(15, b"host-init", 0, 0, 0)
    Path("/run/host-is-up").touch()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigtimedwait({signal.SIGCHLD}, 0.2)


if __name__ == "__main__":
    main()
