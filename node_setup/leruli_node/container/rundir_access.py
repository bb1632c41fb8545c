"""Reading what a container wrote, whoever owns it there.

With rootful Docker the agent is root and can do so as it is. With rootless Docker files of other
users in the container belong to sub-ids of this user: in dockerd's user namespace we are root over
them, and there everything is given to the agent first.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_CHMOD = "u+rwX"
# Of what a command says, in bytes.
_SAID = 200


class RundirAccess:
    """Access to the job folders of one Docker."""

    def __init__(self, docker_socket: Path, is_rootless: Callable[[], bool]) -> None:
        self._pid_file = docker_socket.parent / "docker.pid"
        self._is_rootless = is_rootless

    def take(self, folder: Path) -> bool:
        """Make everything in a folder readable and removable for the agent; False if it failed."""
        if os.getuid() == 0 or not self._is_rootless():
            return True
        # chown -h and chmod -R do not follow links that are in the folder.
        owned = self._in_namespace("chown", "-R", "-h", "0:0", "--", str(folder))
        return self._in_namespace("chmod", "-R", _CHMOD, "--", str(folder)) and owned

    def inside(self, *command: str) -> list[str]:
        """A command that sees all that a container wrote: where need be, in dockerd's namespace."""
        if os.getuid() == 0 or not self._is_rootless():
            return list(command)
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return list(command)
        return ["nsenter", "-U", "--preserve-credentials", "-m", "-t", str(pid), *command]

    def _in_namespace(self, *command: str) -> bool:
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            log.warning("the process id of rootless dockerd is not known")
            return False
        entered = ["nsenter", "-U", "--preserve-credentials", "-m", "-t", str(pid), *command]
        try:
            code, text = _run(entered)
        except OSError as error:
            log.warning("nsenter cannot be run: %s", error.strerror)
            return False
        if code != 0:
            log.warning("%s in dockerd's namespace failed: %s", command[0], text)
        return code == 0


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command; its exit code and the beginning of what it says on stderr."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None  # noqa: S101 - for mypy
        # It may have something to say of each of millions of files.
        said = process.stderr.read(_SAID)
        while process.stderr.read(2**16):
            pass
        return process.wait(), said.decode("utf-8", "replace").strip()
