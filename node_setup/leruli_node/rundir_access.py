"""Reading and removing what a container wrote, whoever owns it there.

With rootful Docker the agent is root and can do so as it is. With rootless Docker files of other
users in the container belong to sub-ids of this user: in dockerd's user namespace we are root over
them, and there everything is given to the agent first.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_CHMOD = "u+rwX"


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

    def remove(self, folder: Path) -> bool:
        """Remove a folder and all in it; False when something could not be removed."""
        if not folder.exists():
            return True
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            self.take(folder)
            shutil.rmtree(folder, onerror=_make_way)
        if folder.exists():
            log.warning("a job folder could not be removed", extra={"folder": folder.name})
        return not folder.exists()

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
            done = subprocess.run(
                entered, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
        except OSError as error:
            log.warning("nsenter cannot be run: %s", error.strerror)
            return False
        if done.returncode != 0:
            text = done.stderr.decode("utf-8", "replace").strip()[:200]
            log.warning("%s in dockerd's namespace failed: %s", command[0], text)
        return done.returncode == 0


def _make_way(function: object, path: str, error: object) -> None:
    """A folder without w or x for its owner keeps its content: give them and try once more."""
    parent = os.path.dirname(path)
    for folder in (parent, path):
        try:
            if stat.S_ISDIR(os.lstat(folder).st_mode):
                os.chmod(folder, 0o700)
        except OSError:
            return
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        return
