"""Makes the files of a container readable for the agent, whichever user of the container owns them.

With rootful Docker the agent is root and can read all. With rootless Docker, files of other users
in the container belong to sub-ids of this user. In dockerd's user namespace the agent is root over
them; there it takes ownership first.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_CHMOD = "u+rwX"
# Bytes of a command's stderr that are logged.
_SAID = 200


class RundirAccess:
    """Access to the job folders of one Docker."""

    def __init__(self, docker_socket: Path, is_rootless: Callable[[], bool]) -> None:
        self._pid_file = docker_socket.parent / "docker.pid"
        self._is_rootless = is_rootless

    def take(self, folder: Path) -> bool:
        """Make all in a folder readable and removable for the agent.

        Return False if that failed.
        """
        if os.getuid() == 0 or not self._is_rootless():
            return True
        # chown -h and chmod -R do not follow links in the folder.
        owned = self._in_namespace("chown", "-R", "-h", "0:0", "--", str(folder))
        return self._in_namespace("chmod", "-R", _CHMOD, "--", str(folder)) and owned

    def inside(self, *command: str) -> list[str]:
        """Return the command, wrapped if necessary to run in dockerd's namespace."""
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
    """Run a command. Return its exit code and the beginning of its stderr."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None  # noqa: S101 - for mypy
        # The command may print a line for each of millions of files.
        said = process.stderr.read(_SAID)
        while process.stderr.read(2**16):
            pass
        return process.wait(), said.decode("utf-8", "replace").strip()
