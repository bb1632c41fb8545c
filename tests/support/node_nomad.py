"""A real Nomad server with ACLs and strict introduction, and its jobs, for several tests."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_rig import DRIVER, Rig, wait_for
from objects_world import find_program

from leruli_queue.embedded.ports import free_ports
from leruli_queue.nodes.tls_folder import TlsFolder

NOMAD = find_program("LERULI_QUEUE_NOMAD", "nomad")
POOL = "group-of-tests"
TEMPLATE = Path(__file__).parents[2] / "nomad_jobs" / "calculation.nomad.hcl"


@dataclass
class Server:
    http: str
    rpc: str
    tls: TlsFolder
    token: str = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310
            f"{self.http}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Nomad-Token": self.token} if self.token else {},
        )
        context = ssl.create_default_context(cafile=self.tls.ca)
        context.load_cert_chain(self.tls.broker, self.tls.broker_key)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def node(self, nodeid: str) -> Any:
        try:
            return self.call("GET", f"node/{nodeid}")
        except urllib.error.HTTPError:
            return None


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    folder.mkdir()
    http, rpc, serf = free_ports(3)
    tls = TlsFolder(folder / "tls")
    tls.renew("global", (), days=1)
    (folder / "server.hcl").write_text(f"""
        data_dir = "{folder}/data"
        bind_addr = "127.0.0.1"
        ports {{
          http = {http}
          rpc = {rpc}
          serf = {serf}
        }}
        advertise {{
          http = "127.0.0.1:{http}"
          rpc = "127.0.0.1:{rpc}"
          serf = "127.0.0.1:{serf}"
        }}
        disable_update_check = true
        acl {{ enabled = true }}
        tls {{
          http = true
          rpc = true
          ca_file = "{tls.ca}"
          cert_file = "{tls.server}"
          key_file = "{tls.server_key}"
          verify_server_hostname = true
          verify_https_client = true
        }}
        server {{
          enabled = true
          bootstrap_expect = 1
          client_introduction {{ enforcement = "strict" }}
        }}
    """)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [NOMAD, "agent", f"-config={folder}/server.hcl"], stdout=log, stderr=log
        )
    server = Server(f"https://127.0.0.1:{http}", f"127.0.0.1:{rpc}", tls)

    def bootstrapped() -> bool:
        try:
            server.token = server.call("POST", "acl/bootstrap")["SecretID"]
        except OSError:
            return False
        return True

    try:
        wait_for(bootstrapped, 30, "Nomad's server")
        server.call("POST", f"node/pool/{POOL}", {"Name": POOL})
        yield server
    finally:
        process.terminate()
        process.wait(20)


def ready(server: Server, rig: Rig) -> Any:
    def look() -> Any:
        node = server.node(rig.service.nodeid)
        healthy = node and node["Drivers"].get("leruli", {}).get("Healthy")
        return node if healthy and node["Status"] == "ready" else None

    return wait_for(look, 40, "a ready node")


def register(server: Server, rig: Rig) -> None:
    """Register the parent of a job as the service does, by its own template."""
    values = {
        "id": "leruli",
        "namespace": "default",
        "region": "global",
        "datacenter": "dc1",
        "node_pool": POOL,
        "node_ids": rig.service.nodeid,
        "image": rig.image_in_nomad("plain", "1"),
        "cores": 1,
        "memory_mb": 100,
        "shm_mb": 0,
    }
    body = {
        "JobHCL": TEMPLATE.read_text(encoding="utf-8"),
        "Variables": "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()),
        "Canonicalize": True,
    }
    server.call("POST", "jobs", {"Job": server.call("POST", "jobs/parse", body)})


def dispatch(server: Server, job: Any) -> str:
    meta = {"job": job.job, "attempt": str(job.attempt)}
    return str(server.call("POST", "job/leruli/dispatch", {"Meta": meta})["DispatchedJobID"])


def stop(server: Server, child: str) -> None:
    """Stop a dispatched job, as the service does."""
    server.call("DELETE", f"job/{child.replace('/', '%2F')}")


def children(pid: int) -> dict[int, str]:
    """Return the process ids of a process's living children, and what they run."""
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    found = {}
    for child in text.split():
        with suppress(FileNotFoundError):
            found[int(child)] = str(Path(f"/proc/{child}/exe").readlink())
    return found


def nomad_of(rig: Rig) -> int:
    """Return the process id of the agent's Nomad."""
    assert rig.process
    return next(pid for pid, program in children(rig.process.pid).items() if "nomad" in program)


def driver_of(nomad: int) -> int:
    """Return the process id of a Nomad's task driver."""
    program = os.path.realpath(str(DRIVER))
    # Between fork and exec a child has Nomad's program.
    wait_for(lambda: list(children(nomad).values()) == [program], 10, "the driver alone")
    [driver] = children(nomad)
    assert children(driver) == {}
    return driver


def kill_driver(rig: Rig) -> None:
    """Kill the driver alone, and wait for another."""
    nomad = nomad_of(rig)
    driver = driver_of(nomad)
    os.kill(driver, signal.SIGKILL)
    [_] = wait_for(lambda: {*children(nomad)} - {driver}, 30, "another driver")


def kill_nomad(rig: Rig) -> None:
    """Kill Nomad, and wait until its driver is gone and the agent has started another Nomad."""
    nomad = nomad_of(rig)
    driver = driver_of(nomad)
    started = rig.log.count("Nomad started")
    os.kill(nomad, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{driver}").exists(), 5, "the end of Nomad's driver")
    wait_for(lambda: rig.log.count("Nomad started") > started, 20, "another Nomad")


def task_of(server: Server, rig: Rig) -> Any:
    [allocation] = server.call("GET", f"node/{rig.service.nodeid}/allocations")
    return (allocation.get("TaskStates") or {}).get("main") or {}
