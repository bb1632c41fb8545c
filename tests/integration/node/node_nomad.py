"""What tests with the real Nomad share: a server with ACLs and strict introduction, and a job."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_rig import Rig, wait_for
from objects_world import find_program

from leruli_queue.embedded.ports import free_ports
from leruli_queue.nodes.tls_folder import TlsFolder

NOMAD = find_program("LERULI_QUEUE_NOMAD", "nomad")
POOL = "group-of-tests"
TEMPLATE = Path(__file__).parents[3] / "nomad_jobs" / "calculation.nomad.hcl"


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
