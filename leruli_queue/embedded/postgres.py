"""PostgreSQL for one stack: its own cluster, on a unix socket only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg

from leruli_queue.embedded.folders import Folders, write_private
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.state import StackState
from leruli_queue.errors import SetupError

_USER = "leruli"
_DATABASE = "postgres"
_ORPHANS_END_WITHIN_S = 5.0


def database_url(folders: Folders, state: StackState) -> str:
    """Return the address of the stack's database."""
    socket = quote(str(_socket_folder(folders)), safe="")
    return f"postgresql://{_USER}:{state.postgres_password}@/{_DATABASE}?host={socket}"


def make_cluster(folders: Folders, state: StackState, programs: Programs) -> None:
    """Make the database cluster, unless an earlier start did."""
    if (folders.postgres / "PG_VERSION").exists():
        return
    password_file = folders.data / ".postgres-password"
    write_private(password_file, state.postgres_password)
    try:
        subprocess.run(
            [
                *_not_as_root(),
                *(programs.postgres_bin / "initdb", "--pgdata", folders.postgres),
                *("--username", _USER, "--pwfile", password_file, "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--no-locale"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        raise SetupError(f"PostgreSQL's initdb failed:\n{error.stderr.strip()}") from error
    finally:
        password_file.unlink()


def postgres_part(folders: Folders, programs: Programs) -> Part:
    """Return the server as a part of the stack."""
    _socket_folder(folders).mkdir(mode=0o700, exist_ok=True)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(_socket_folder(folders)),
        "max_connections": "100",
        # The details of an error hold the row, and so the name of a bucket.
        "log_error_verbosity": "terse",
    }
    return Part(
        name="PostgreSQL",
        arguments=[
            *_not_as_root(),
            *(programs.postgres_bin / "postgres", "-D", folders.postgres),
            *(f"--{name}={value}" for name, value in settings.items()),
        ],
        environment=os.environ,
        log=folders.logs / "postgres.log",
        # Fast shutdown. SIGTERM would wait until all clients have disconnected.
        end_signal=signal.SIGINT,
        clear=lambda: end_orphans(folders),
    )


def end_orphans(folders: Folders) -> None:
    """End the server processes of a cluster whose postmaster was killed.

    A busy process notices the loss only after its statement, and until it ends no other server
    starts on the same data. The processes get the signal of an immediate shutdown. The next start
    recovers from the write-ahead log.
    """
    deadline = time.monotonic() + _ORPHANS_END_WITHIN_S
    number = signal.SIGQUIT
    while orphans := _processes_of(folders.postgres):
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.1)
        if time.monotonic() > deadline:
            number = signal.SIGKILL


def _processes_of(cluster: Path) -> list[int]:
    """Return the ids of PostgreSQL's processes whose working folder is the cluster's."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        # OSError: it belongs to another user, or has ended meanwhile.
        with contextlib.suppress(OSError):
            is_server = (process / "comm").read_text(encoding="utf-8") == "postgres\n"
            if is_server and (process / "cwd").readlink() == cluster.resolve():
                found.append(int(process.name))
    return found


def answers(url: str) -> bool:
    """Tell whether the database takes connections."""

    async def ask() -> bool:
        try:
            connection = await asyncpg.connect(url, timeout=2)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    return asyncio.run(ask())


def _socket_folder(folders: Folders) -> Path:
    return folders.sockets / "postgres"


def _not_as_root() -> list[str]:
    """Return the command prefix that hides root from PostgreSQL, which refuses to run as root.

    A user namespace maps our id to one that is not 0. Files still belong to us, and no system user
    is needed.
    """
    if os.getuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
