"""The Nomad server of one stack, with mutual TLS, ACLs and strict client introduction.

The node agent starts the node's Nomad client.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
from importlib.resources import files
from typing import Any

import httpx

from leruli_queue.embedded.folders import Folders, write_private
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.state import StackState
from leruli_queue.errors import SetupError

NAMESPACE = "leruli"
_REGION = "global"
_CERTIFICATE_DAYS = 365
_POLICY = "leruli-queue"
# How long child jobs that are over stay in Nomad, with 140 KB each. docs/developers/nomad.md says
# why no longer time is needed.
_GC = "5m"
# Go's garbage collector took a tenth of the server's CPU. No memory limit is set: a server above it
# does little else than collect.
_GO_RUNTIME = {"GOGC": "200"}


def address(state: StackState) -> str:
    """Return the address of Nomad's HTTP API."""
    return f"https://{state.address}:{state.ports.nomad_http}"


def client(folders: Folders, state: StackState, *, timeout: float = 10) -> httpx.Client:
    """Return a client of Nomad's HTTP API with the management token."""
    context = ssl.create_default_context(cafile=folders.tls.ca)
    context.load_cert_chain(folders.tls.broker, folders.tls.broker_key)
    return httpx.Client(
        base_url=address(state),
        verify=context,
        headers={"X-Nomad-Token": state.nomad_management_token},
        timeout=timeout,
        trust_env=False,
    )


def write_configuration(folders: Folders, state: StackState) -> None:
    """Write the server's configuration, and certificates for another year.

    The server's state names its own address: after a change of a port the server could no longer
    elect itself. PostgreSQL has all that matters, so that state is removed.
    """
    tls = folders.tls
    tls.renew(_REGION, (state.address,), days=_CERTIFICATE_DAYS)
    path = folders.nomad_server / "server.json"
    ports = state.ports
    configuration = {
        "data_dir": str(folders.nomad_server / "state"),
        "bind_addr": state.address,
        "ports": {"http": ports.nomad_http, "rpc": ports.nomad_rpc, "serf": ports.nomad_serf},
        "advertise": {
            "http": f"{state.address}:{ports.nomad_http}",
            "rpc": f"{state.address}:{ports.nomad_rpc}",
            "serf": f"{state.address}:{ports.nomad_serf}",
        },
        "acl": {"enabled": True},
        "tls": {
            "http": True,
            "rpc": True,
            "ca_file": str(tls.ca),
            "cert_file": str(tls.server),
            "key_file": str(tls.server_key),
            "verify_server_hostname": True,
            "verify_https_client": True,
        },
        "server": {
            "enabled": True,
            "bootstrap_expect": 1,
            "encrypt": state.nomad_gossip_key,
            "event_buffer_size": 10000,
            "job_gc_interval": "1m",
            "job_gc_threshold": _GC,
            "eval_gc_threshold": _GC,
            "batch_eval_gc_threshold": _GC,
            "client_introduction": {"enforcement": "strict"},
        },
        "telemetry": {"disable_dispatched_job_summary_metrics": True},
        "disable_update_check": True,
        "leave_on_interrupt": False,
        "leave_on_terminate": False,
    }
    text = json.dumps(configuration, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        shutil.rmtree(folders.nomad_server / "state", ignore_errors=True)
        state.nomad_service_token = ""
    write_private(path, text)


def server_part(folders: Folders, programs: Programs) -> Part:
    """Return the server as a part of the stack."""
    return Part(
        name="Nomad server",
        arguments=[programs.nomad, "agent", "-config", folders.nomad_server / "server.json"],
        environment={"PATH": os.environ.get("PATH", os.defpath), **_GO_RUNTIME},
        log=folders.logs / "nomad-server.log",
    )


def has_leader(folders: Folders, state: StackState) -> bool:
    """Tell whether the server is up and has elected itself."""
    try:
        with client(folders, state, timeout=2) as http:
            answer = http.get("/v1/status/leader")
    except httpx.HTTPError:
        return False
    return answer.is_success and bool(answer.json())


def prepare_access(folders: Folders, state: StackState) -> None:
    """Bootstrap the ACLs; make the namespace, the service's policy and token. Can be repeated."""
    with client(folders, state) as http:
        answer = http.post(
            "/v1/acl/bootstrap", json={"BootstrapSecret": state.nomad_management_token}
        )
        if not answer.is_success and "already done" not in answer.text:
            raise SetupError(f"Nomad's ACLs cannot be set up: {answer.text.strip()}")
        _post(http, f"/v1/namespace/{NAMESPACE}", {"Name": NAMESPACE})
        rules = (files("leruli_queue.nomad") / "jobs" / "service.policy.hcl").read_text()
        _post(http, f"/v1/acl/policy/{_POLICY}", {"Name": _POLICY, "Rules": rules})
        if not _is_valid(http, state.nomad_service_token):
            token = {"Name": "service", "Type": "client", "Policies": [_POLICY]}
            state.nomad_service_token = _post(http, "/v1/acl/token", token).json()["SecretID"]


def _is_valid(http: httpx.Client, token: str) -> bool:
    if not token:
        return False
    return http.get("/v1/acl/token/self", headers={"X-Nomad-Token": token}).is_success


def _post(http: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = http.post(path, json=body)
    if not answer.is_success:
        raise SetupError(f"Nomad refused {path}: {answer.text.strip()}")
    return answer
