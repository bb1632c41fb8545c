"""The real Nomad: a server with ACLs and strict introduction, and the client of the agent."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from node_fake_service import FakeService
from node_rig import Rig, Store, find_program, free_port, wait_for

from leruli_queue.nodes.certificates import load_authority
from leruli_queue.nodes.tls_folder import TlsFolder

NOMAD = find_program("LERULI_QUEUE_NOMAD", "nomad")
POOL = "group-of-tests"
assert NOMAD is not None, "no nomad: set LERULI_QUEUE_NOMAD, or run `make tools`"


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
    http, rpc, serf = free_port(), free_port(), free_port()
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
    assert NOMAD
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path / "server") as made:
        yield made


@pytest.fixture
def nomad_rig(
    tmp_path: Path, server: Server, node_store: Store, plain_archive: bytes
) -> Iterator[Rig]:
    assert NOMAD
    token = "lqg-" + uuid.uuid4().hex[:26]
    node_store.client.make_bucket(f"code-{token}")
    service = FakeService([server.rpc], load_authority(server.tls.ca, server.tls.ca_key))
    wanted = {"NodePool": POOL, "NodeName": service.nodeid, "TTL": "5m"}

    def introduce() -> Any:
        # A server that has just begun has no key to sign with and answers 500.
        try:
            return server.call("POST", "acl/identity/client-introduction-token", wanted)
        except urllib.error.HTTPError:
            return None

    introduction = wait_for(introduce, 30, "an introduction token")
    service.nomad["introtoken"] = introduction["JWT"]
    made = Rig(tmp_path, node_store, service, token, {"LERULI_NODE_NOMAD": NOMAD})
    made.publish("plain", "1", plain_archive)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
        made.close()


JOB = """
job "leruli" {
  type      = "batch"
  node_pool = "%(pool)s"
  parameterized { meta_required = ["job", "attempt"] }
  group "g" {
    restart { attempts = 0 }
    reschedule { attempts = 0 }
    ephemeral_disk { size = 10 }
    task "stage-in" {
      driver = "raw_exec"
      lifecycle { hook = "prestart" }
      config {
        command = "${meta.leruli_python}"
        args = ["-I", "-S", "${meta.leruli_stage}", "in", "${meta.leruli_socket}"]
      }
      resources {
        cpu = 10
        memory = 20
      }
      logs {
        disabled = true
        max_files = 1
        max_file_size = 1
      }
    }
    task "main" {
      driver = "docker"
      leader = true
      kill_timeout = "30s"
      config {
        image = "%(image)s"
        network_mode = "none"
        security_opt = ["no-new-privileges"]
        init = false
        entrypoint = ["/bin/sh", "/leruli/main.sh"]
        work_dir = "/rundir"
        labels = {
          "leruli.node" = "${node.unique.name}"
          "leruli.attempt" = "${NOMAD_META_job}x${NOMAD_META_attempt}"
        }
        volumes = [
          "${meta.leruli_jobs}/${NOMAD_META_job}x${NOMAD_META_attempt}/rundir:/rundir",
          "${meta.leruli_jobs}/${NOMAD_META_job}x${NOMAD_META_attempt}/control:/leruli",
        ]
      }
      resources {
        cpu = 1000
        memory = 100
      }
      logs {
        disabled = true
        max_files = 1
        max_file_size = 1
      }
    }
    task "stage-out" {
      driver = "raw_exec"
      lifecycle { hook = "poststop" }
      config {
        command = "${meta.leruli_python}"
        args = ["-I", "-S", "${meta.leruli_stage}", "out", "${meta.leruli_socket}"]
      }
      resources {
        cpu = 10
        memory = 20
      }
      logs {
        disabled = true
        max_files = 1
        max_file_size = 1
      }
    }
  }
}
"""


def ready(server: Server, rig: Rig) -> Any:
    def look() -> Any:
        node = server.node(rig.service.nodeid)
        healthy = node and node["Drivers"].get("docker", {}).get("Healthy")
        return node if healthy and node["Status"] == "ready" else None

    return wait_for(look, 40, "a ready node")


def register(server: Server, rig: Rig) -> None:
    text = JOB % {"pool": POOL, "image": rig.image_in_nomad("plain", "1")}
    job = server.call("POST", "jobs/parse", {"JobHCL": text, "Canonicalize": True})
    server.call("POST", "jobs", {"Job": job})


def dispatch(server: Server, job: Any) -> str:
    meta = {"job": job.job, "attempt": str(job.attempt)}
    return str(server.call("POST", "job/leruli/dispatch", {"Meta": meta})["DispatchedJobID"])


def test_client_runs_jobs_under_the_id_that_the_service_gave(
    server: Server, nomad_rig: Rig
) -> None:
    rig = nomad_rig
    node = ready(server, rig)
    assert node["ID"] == rig.service.nodeid == node["Name"]
    assert node["NodePool"] == POOL
    assert node["Meta"]["leruli_jobs"] == str(rig.node_dir / "jobs")
    assert node["NodeResources"]["Cpu"]["CpuShares"] == (os.cpu_count() or 1) * 1000
    for path in (rig.node_dir / "nomad.json", rig.node_dir / "nomad/client/intro_token.jwt"):
        assert path.stat().st_mode & 0o777 == 0o600
    register(server, rig)
    good, bad, long = rig.job("echo hi >o"), rig.job("exit 3"), rig.job("sleep 60", timelimit=2)
    for job in (good, bad, long):
        dispatch(server, job)
    outcomes = {}
    for job in (good, bad, long):
        receipt = wait_for(lambda job=job: rig.service.receipts.get(job.key), 60, "a receipt")
        outcomes[job.key] = (receipt["outcome"], receipt["exitcode"])
    assert outcomes[good.key] == ("ended", 0)
    assert outcomes[bad.key] == ("ended", 3)
    assert outcomes[long.key][0] == "time_limit"
    assert rig.store.get(good.bucket, "o") == b"hi\n"
    assert all(rig.is_clean(job) for job in (good, bad, long))


def test_a_stopped_job_is_staged_out_as_stopped(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job("echo begun; sleep 100")
    child = dispatch(server, job)
    wait_for(lambda: any(c.status == "running" for c in rig.containers()), 40, "a container")
    time.sleep(1)
    server.call("DELETE", f"job/{child.replace('/', '%2F')}")
    assert wait_for(lambda: rig.service.receipts.get(job.key), 40)["outcome"] == "stopped"
    assert rig.store.get(job.bucket, "joblog.txt") == b"begun\n"


def test_running_jobs_outlive_an_agent_that_is_killed(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job("sleep 8; echo survived")
    dispatch(server, job)
    wait_for(lambda: any(c.status == "running" for c in rig.containers()), 40, "a container")
    rig.kill()
    time.sleep(1)
    rig.start()
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "joblog.txt") == b"survived\n"


def test_nothing_is_left_after_term(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job("sleep 100")
    dispatch(server, job)
    wait_for(lambda: any(c.status == "running" for c in rig.containers()), 40, "a container")
    rig.settings["LERULI_NODE_DRAIN_SECONDS"] = "1"
    assert rig.stop() == 0
    assert rig.containers() == []
    mine = str(rig.node_dir)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert mine not in entry.read_text(), entry
        except (FileNotFoundError, ProcessLookupError):
            continue


def shown_certificate(server: Server, rig: Rig) -> bytes:
    """The certificate that Nomad's client shows to who connects to it now."""
    port = json.loads((rig.node_dir / "node.json").read_text())["nomad_port"]
    context = ssl.create_default_context(cafile=server.tls.ca)
    context.load_cert_chain(server.tls.broker, server.tls.broker_key)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def test_nomad_reads_a_renewed_certificate_and_what_it_runs_goes_on(
    server: Server, nomad_rig: Rig
) -> None:
    rig = nomad_rig
    rig.stop()
    rig.service.report_seconds = 0.5
    rig.service.certificate_seconds = 30.0
    rig.start()
    ready(server, rig)
    register(server, rig)
    first = shown_certificate(server, rig)
    job = rig.job("sleep 14; echo survived")
    dispatch(server, job)
    wait_for(lambda: any(c.status == "running" for c in rig.containers()), 40, "a container")
    nomads = rig.log.count("Nomad started")
    wait_for(lambda: shown_certificate(server, rig) != first, 25, "another certificate")
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "joblog.txt") == b"survived\n"
    assert rig.log.count("Nomad started") == nomads
    assert server.node(rig.service.nodeid)["Status"] == "ready"
