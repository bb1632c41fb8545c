"""Simulated nodes: each joins by the real node-join and is then a real Nomad client of nodesim."""

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

# Nomad's server makes the key that introductions are signed with a moment after it has a leader.
_JOINS_WITHIN_S = 30
_REGISTER_WITHIN_S = 180
_PATIENCE_S = 20
_LAST_LINES = 15
_NOBODY = "nobody"
# A file system in memory: nodes have disks of their own, and do not wait for that of the servers.
_MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there has a name of its own


@dataclass(frozen=True)
class NodeSize:
    """One node to be: of which group (its position), and how large."""

    group: int
    cores: int
    memory_mb: int


@dataclass(frozen=True)
class Staging:
    """Seconds on a node: image and input, then Docker until a command runs; output after it."""

    stage_in_s: float = 0.0
    container_start_s: float = 0.0
    stage_out_s: float = 0.0


@dataclass(frozen=True)
class Record:
    """What a node did for one attempt; times are seconds since 1970, 0 where it did not."""

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


@dataclass
class Nodes:
    """Running nodes."""

    process: subprocess.Popen[bytes]
    log: Path
    folder: Path
    cores: dict[str, int]

    def records(self) -> list[Record]:
        """Return what was done so far, an entry an attempt that ended on its node."""
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
    log: Path,
) -> Iterator[Nodes]:
    """Join nodes, start them in one process, and wait until Nomad has all of them.

    Raises
    ------
    SetupError
        When nodesim is missing, a node is not let in, or Nomad does not take one.
    """
    program = _find_nodesim()
    _join_all(service, groups, absent)
    cluster, cores = _join_all(service, groups, sizes)
    # Not below the stack's folder, which is closed to the user that the nodes run as. Short: Nomad
    # makes a socket for each task far below it, whose path may have 107 bytes.
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="lqn-", dir=memory))
    cluster |= {
        "service": service,
        "folder": str(folder),
        "loglevel": "WARN",
        "stageinseconds": staging.stage_in_s,
        "containerstartseconds": staging.container_start_s,
        "stageoutseconds": staging.stage_out_s,
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
    """Start nodesim, not as root: for root's tasks Nomad's client would mount file systems.

    It gets what the others leave of the processors, for nodes have their own.
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
            # Where it is that user may not be allowed to go.
            ["nice", "-n", "5", f"/proc/self/fd/{opened.fileno()}"],
            pass_fds=[opened.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            # They stand for other machines' processors: of ours they shall take little.
            # With a second thread for Go's code they wake each other up more than they work.
            env={**os.environ, "GOGC": "400", "GOMAXPROCS": "1"},
            # Ctrl-C is for us; it ends when its input does, so with us in any case.
            start_new_session=True,
            **other_user,
        )


def _find_nodesim() -> Path:
    named = os.environ.get("LERULI_QUEUE_NODESIM")
    path = Path(named) if named else Path(sys.executable).parent / "nodesim"
    if not os.access(path, os.X_OK):
        raise SetupError(
            f"There is no nodesim at {path}, which plays the nodes. Run `setup/tools.sh nodesim` "
            "(it needs Go), or name one in LERULI_QUEUE_NODESIM."
        )
    return path


def _join_all(
    service: str, groups: Sequence[SimulatedGroup], sizes: Sequence[NodeSize]
) -> tuple[dict[str, Any], dict[str, int]]:
    """Let all nodes in; return the description for nodesim, and cores by node id."""
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
            raise SetupError(f"{name} was not let in: {answer.status_code} {answer.text[:300]}")
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
        said = process.stdout.readline() if readable else b""
    except BrokenPipeError:
        said = b""
    if said.strip() != b"ready":
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        raise SetupError("The nodes did not come up. The end of their log:\n" + "\n".join(lines))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
