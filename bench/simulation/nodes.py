"""Simulated nodes: each joins by the real node-join, then nodesim runs its real Nomad client."""

from __future__ import annotations

import json
import os
import pwd
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.simulation.groups import SimulatedGroup
from leruli_queue.errors import SetupError
from leruli_queue.nodes.certificates import key_pem

# Nomad's server makes the key that signs introductions shortly after it has a leader.
_JOINS_WITHIN_S = 30
_REGISTER_WITHIN_S = 180
_STOP_TIMEOUT_S = 20
_LAST_LINES = 15
_NOBODY = "nobody"
# A file system in memory: real nodes have their own disks and do not wait for the servers' disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a unique name there


@dataclass(frozen=True)
class NodeSize:
    """Group (its position in the list of groups) and resources of a node."""

    group: int
    cores: int
    memory_mb: int


@dataclass(frozen=True)
class Staging:
    """Simulated durations on a node: image and input, container start, output."""

    stage_in_s: float = 0.0
    container_start_s: float = 0.0
    stage_out_s: float = 0.0
    # The part of the container's start that is left if it was made while the attempt before ran.
    prepared_start_s: float = 0.0


@dataclass(frozen=True)
class Agents:
    """Behaviour of the simulated node agents in slots."""

    # False: they give each allocation back to Nomad, as agents from before slots do.
    know_slots: bool = True
    # Seconds for which a node gathers receipts and questions for one call, as the agent does.
    gather_s: float = 0.02


@dataclass(frozen=True)
class Record:
    """Times of one attempt on its node, in s since 1970, 0 for a step that did not happen."""

    job: str
    attempt: int
    node: str
    cores: int
    arrived: float
    granted: float
    running: float
    ended: float
    receipted: float
    trouble: str = ""
    # First attempt of the slot, if this is a further one: <job id>x<number>.
    slot: str = ""

    @property
    def slot_key(self) -> str:
        """First attempt of its slot, which may be itself."""
        return self.slot or f"{self.job}x{self.attempt}"


@dataclass
class Nodes:
    """Running nodes."""

    process: subprocess.Popen[bytes]
    log: Path
    folder: Path
    cores: dict[str, int]

    def records(self) -> list[Record]:
        """Return the records so far, one per attempt that ended on its node."""
        path = self.folder / "records.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Record(**json.loads(line)) for line in lines]


@contextmanager
def running_nodes(
    service: str,
    groups: Sequence[SimulatedGroup],
    sizes: Sequence[NodeSize],
    absent: Sequence[NodeSize],
    staging: Staging,
    agents: Agents,
    log: Path,
) -> Iterator[Nodes]:
    """Join nodes, start them in one process, and wait until all are registered with Nomad.

    Raises
    ------
    SetupError
        If nodesim is missing, a node-join is refused, or a node does not register.
    """
    program = _find_nodesim()
    _join_all(service, groups, absent)
    cluster, cores = _join_all(service, groups, sizes)
    # The user of the nodes may not enter the stack's folder. The path must be short: Nomad makes a
    # socket for each task deep below it, and a socket's path has at most 107 bytes.
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="lqn-", dir=memory))
    cluster |= {
        "service": service,
        "folder": str(folder),
        "loglevel": "WARN",
        "stageinseconds": staging.stage_in_s,
        "containerstartseconds": staging.container_start_s,
        "stageoutseconds": staging.stage_out_s,
        "preparedstartseconds": staging.prepared_start_s,
        "slots": agents.know_slots,
        "gatherseconds": agents.gather_s,
    }
    try:
        process = _start(program, folder, log)
        try:
            _wait_until_ready(process, cluster, log)
            yield Nodes(process, log, folder, cores)
        finally:
            _end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(program: Path, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start nodesim, but not as root: Nomad's client mounts file systems for tasks of root.

    It runs with nice 5, as real nodes have their own processors.
    """
    with log.open("wb") as output, program.open("rb") as opened:
        other_user: dict[str, Any] = {}
        if os.getuid() == 0:
            shutil.chown(folder, _NOBODY)
            other_user = {
                "user": _NOBODY,
                "group": pwd.getpwnam(_NOBODY).pw_gid,
                "extra_groups": [],
            }
        return subprocess.Popen(
            # The other user may not be allowed to enter the program's folder.
            ["nice", "-n", "5", f"/proc/self/fd/{opened.fileno()}"],
            pass_fds=[opened.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            # Real nodes take no CPU of this machine, so use little of it: fewer collections of
            # garbage, and one thread. Two threads mostly wake each other up.
            env={**os.environ, "GOGC": "400", "GOMAXPROCS": "1"},
            # Ctrl-C must reach only this process. nodesim ends when its input ends, so at the
            # latest with this process.
            start_new_session=True,
            **other_user,
        )


def _find_nodesim() -> Path:
    named = os.environ.get("LERULI_QUEUE_NODESIM")
    path = Path(named) if named else Path(sys.executable).parent / "nodesim"
    if not os.access(path, os.X_OK):
        raise SetupError(
            f"The program that simulates nodes is missing: {path}. Run `setup/tools.sh nodesim` "
            "(it needs Go), or set LERULI_QUEUE_NODESIM to its path."
        )
    return path


def _join_all(
    service: str, groups: Sequence[SimulatedGroup], sizes: Sequence[NodeSize]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Join all nodes; return the input of nodesim, and the cores of each node by its id."""
    nodes: list[dict[str, Any]] = []
    common: dict[str, Any] = {}
    with httpx.Client(base_url=f"{service}/v22_1/", timeout=30, trust_env=False) as http:
        for number, size in enumerate(sizes):
            key = ec.generate_private_key(ec.SECP256R1())
            answer = _join(http, groups[size.group], size, f"node-{number}", _request(key))
            nomad = answer["nomad"]
            common = {
                "ca": answer["tls"]["ca"],
                "servers": nomad["servers"],
                "region": nomad["region"],
                "datacenter": nomad["datacenter"],
                "reportseconds": answer["reportseconds"],
            }
            nodes.append(
                {
                    "id": answer["nodeid"],
                    "token": answer["nodetoken"],
                    "pool": nomad["pool"],
                    "introtoken": nomad["introtoken"],
                    "certificate": answer["tls"]["certificate"],
                    "key": key_pem(key),
                    "cores": size.cores,
                    "memorymb": size.memory_mb,
                }
            )
    return common | {"nodes": nodes}, {node["id"]: node["cores"] for node in nodes}


def _join(
    http: httpx.Client, group: SimulatedGroup, size: NodeSize, name: str, request: str
) -> dict[str, Any]:
    body = {
        "computesecret": group.compute_secret,
        "grouptoken": group.token,
        "name": name,
        "cores": size.cores,
        "memorymb": size.memory_mb,
        "agentversion": "simulated",
        "csr": request,
    }
    deadline = time.monotonic() + _JOINS_WITHIN_S
    while True:
        answer = http.post("node-join", json=body)
        if answer.is_success:
            found: dict[str, Any] = answer.json()
            return found
        if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR or time.monotonic() > deadline:
            raise SetupError(
                f"The service refused the node {name}: {answer.status_code} {answer.text[:300]}"
            )
        time.sleep(0.2)


def _request(key: ec.EllipticCurvePrivateKey) -> str:
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def _wait_until_ready(process: subprocess.Popen[bytes], cluster: dict[str, Any], log: Path) -> None:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("both are pipes")
    try:
        process.stdin.write(json.dumps(cluster).encode())
        process.stdin.flush()
        readable, _, _ = select.select([process.stdout], [], [], _REGISTER_WITHIN_S)
        line = process.stdout.readline() if readable else b""
    except BrokenPipeError:
        line = b""
    if line.strip() != b"ready":
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        raise SetupError("The nodes did not start. The end of their log:\n" + "\n".join(lines))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
