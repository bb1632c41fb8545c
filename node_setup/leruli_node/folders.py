"""The agent's folders, its lock, and file writes that survive a crash whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leruli_node.errors import EXIT_ALREADY_RUNNING, EXIT_SETTINGS, AgentError

# sockaddr_un holds 108 bytes, including the closing zero.
LONGEST_SOCKET_PATH = 107

# Inside the folder of job folders. No attempt has these keys.
TRASH = ".trash"
SHARED = ".shared"

# Reserved space, freed when the disk is full. Then state files can still be written.
BALLAST = "ballast"
# In the folder of an agent, beside the ballast.
_LOCK = "agent.lock"
# Folders from a file of the agent up to its own folder, at most.
_DEEPEST = 4
_BALLAST_BYTES = 64 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Folders:
    """The paths of one agent's files; docs/nodes/agent.md describes each."""

    root: Path
    attempts: Path
    receipts: Path
    jobs: Path
    logs: Path
    nomad_data: Path
    tls: Path
    downloads: Path
    slots: Path
    socket: Path

    @property
    def node_file(self) -> Path:
        """The file of the node id and other facts that outlive the process. It holds no secret."""
        return self.root / "node.json"

    @property
    def images_file(self) -> Path:
        """The file that says when each image was used last. It holds no secret."""
        return self.root / "images.json"

    @property
    def nomad_config(self) -> Path:
        """The configuration of the Nomad client."""
        return self.root / "nomad.json"

    @property
    def nomad_plugins(self) -> Path:
        """The folder in which Nomad finds the task driver."""
        return self.root / "plugins"

    @property
    def trash(self) -> Path:
        """The folder of finished job folders until they are removed; on the same disk as those."""
        return self.jobs / TRASH

    @property
    def shared(self) -> Path:
        """The folders of shared containers; on the same disk as job folders."""
        return self.jobs / SHARED

    def job(self, attempt_key: str) -> Path:
        """Return the folder of one attempt.

        Its rundir/ and control/ are mounted in the container.
        """
        return self.jobs / attempt_key


def make_folders(root: Path) -> Folders:
    """Make the folders, private to this user.

    The root itself gets mode 0711: Nomad's tasks must be able to pass through the parents of its
    data_dir.

    Raises
    ------
    AgentError
        A folder cannot be made.
    """
    folders = Folders(
        root=root,
        attempts=root / "attempts",
        receipts=root / "receipts",
        jobs=root / "jobs",
        logs=root / "logs",
        nomad_data=root / "nomad",
        tls=root / "tls",
        downloads=root / "downloads",
        slots=root / "slots",
        socket=_socket_path(root),
    )
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        root.chmod(0o711)
        for folder in (
            folders.attempts,
            folders.receipts,
            folders.jobs,
            folders.trash,
            folders.shared,
            folders.logs,
            folders.tls,
            folders.downloads,
            folders.slots,
            folders.nomad_plugins,
        ):
            _private(folder)
        folders.nomad_data.mkdir(mode=0o711, exist_ok=True)
        _private(folders.socket.parent)
    except OSError as error:
        raise AgentError(
            f"the folder {root} cannot be used: {error.strerror}. "
            f"It must belong to the user who runs the agent.",
            EXIT_SETTINGS,
        ) from error
    return folders


def lock_root(root: Path) -> int:
    """Take the lock of this folder, which one agent can hold. The process holds it until it ends.

    Raises
    ------
    AgentError
        Another agent holds it.
    """
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise AgentError(
            f"another leruli-node (process {owner or '?'}) already uses {root}; "
            f"stop it first or set LERULI_NODE_DIR to another folder.",
            EXIT_ALREADY_RUNNING,
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def runtime_dir() -> Path:
    """Return a short private folder of this user, for sockets and locks of several agents."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        folder = Path(base) / "leruli-node"
    else:
        folder = Path(tempfile.gettempdir()) / f"leruli-node-{os.getuid()}"
    _private(folder)
    return folder


def make_ballast(root: Path) -> bool:
    """Make the ballast file of the agent's folder. Return whether it is there now."""
    path = root / BALLAST
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size < _BALLAST_BYTES:
            os.posix_fallocate(descriptor, 0, _BALLAST_BYTES)
        return True
    except OSError:
        path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes, mode: int = 0o600, sync: bool = True) -> None:
    """Replace a file in one step, durably: after a crash it is the old or the new one.

    With `sync` false this holds for a crash of the agent, but not of the machine. On a full disk
    the ballast is removed.
    """
    with_ballast(path, lambda: _write_file(path, data, mode, sync))


def with_ballast(path: Path, write: Callable[[], None]) -> None:
    """Write a file below the agent's folder. On a full disk remove the ballast and write again."""
    try:
        write()
    except OSError as error:
        if error.errno not in _FULL:
            raise
        for folder in list(path.parents)[:_DEEPEST]:
            with contextlib.suppress(OSError):
                (folder / BALLAST).unlink()
            if (folder / _LOCK).exists():
                break
        write()


def _write_file(path: Path, data: bytes, mode: int, sync: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def remove_unfinished(folders: Folders) -> None:
    """Remove temporary files of a killed agent. The caller must hold the lock of the root."""
    for folder in (folders.root, folders.attempts, folders.receipts, folders.slots, folders.tls):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the file names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(1, f"{folder} belongs to somebody else")
    folder.chmod(0o700)


def _socket_path(root: Path) -> Path:
    usual = root / "run" / "agent.sock"
    if len(os.fsencode(usual)) <= LONGEST_SOCKET_PATH:
        return usual
    # The folder's inode differs between two agents of one user, and stays the same after a restart.
    root.mkdir(parents=True, exist_ok=True, mode=0o711)
    facts = root.stat()
    return runtime_dir() / f"{facts.st_dev:x}-{facts.st_ino:x}" / "agent.sock"
