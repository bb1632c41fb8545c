"""The data folder of a stack and the paths in it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from leruli_queue.errors import SetupError
from leruli_queue.nodes.tls_folder import TlsFolder

# sockaddr_un holds 108 bytes, a closing zero included.
_LONGEST_SOCKET = 107
_LONGEST_SOCKET_NAME = len("/postgres/.s.PGSQL.5432")


@dataclass(frozen=True)
class Folders:
    """Paths below the data folder of one stack."""

    data: Path

    @property
    def postgres(self) -> Path:
        """PostgreSQL's cluster."""
        return self.data / "postgres"

    @property
    def objects(self) -> Path:
        """The object store's buckets."""
        return self.data / "objects"

    @property
    def nomad_server(self) -> Path:
        """The Nomad server's configuration and state; can be rebuilt from PostgreSQL."""
        return self.data / "nomad-server"

    @property
    def tls(self) -> TlsFolder:
        """The certificates of Nomad's traffic. Without them the nodes have to join again."""
        return TlsFolder(self.data / "tls")

    @property
    def node(self) -> Path:
        """The files of this machine's node agent."""
        return self.data / "node"

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.data / "logs"

    @property
    def secrets(self) -> Path:
        """Secrets and ports of this stack, stored from one start to the next."""
        return self.data / "secrets.json"

    @property
    def lock(self) -> Path:
        """The lock file. It holds the process id as long as the stack is up."""
        return self.data / "up.lock"

    @property
    def started(self) -> Path:
        """The process ids of the started parts, to clean up after a crash."""
        return self.data / "started.json"

    @property
    def env_sh(self) -> Path:
        """Environment of a user of this stack, to be sourced."""
        return self.data / "env.sh"

    @property
    def admin_sh(self) -> Path:
        """Secrets of the admin of this stack, to be sourced."""
        return self.data / "admin.sh"

    @property
    def sockets(self) -> Path:
        """The folder of unix sockets; elsewhere if the data folder's path is too long for them."""
        inside = self.data / "run"
        if len(os.fsencode(inside)) + _LONGEST_SOCKET_NAME <= _LONGEST_SOCKET:
            return inside
        # Only the owner may enter, so nobody else can put a socket there.
        name = f"leruli-queue-{os.getuid()}-{self.data.stat().st_ino}"
        return Path(tempfile.gettempdir()) / name

    def make(self) -> None:
        """Make the folders, closed to other users.

        Raises
        ------
        SetupError
            When they cannot be made, or the folder of the sockets belongs to somebody else.
        """
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(
                f"The data folder {self.data} cannot be made: {error.strerror}. "
                "Choose another with --data."
            ) from error
        for folder in (
            self.logs,
            self.objects,
            self.nomad_server,
            self.node,
            self.sockets,
        ):
            folder.mkdir(mode=0o700, exist_ok=True)
        # It can be in a folder that everybody may write to, and be a link of somebody else.
        found = self.sockets.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise SetupError(f"{self.sockets} is not a folder of ours. Remove it, or set TMPDIR.")
        self.sockets.chmod(0o700)

    def remove_sockets(self) -> None:
        """Remove the folder of the sockets if it is outside of the data folder."""
        if self.sockets.parent != self.data:
            shutil.rmtree(self.sockets, ignore_errors=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
