"""A Nomad server for one stack: mutual TLS, ACLs on, introduction strict.

The node's client is the agent's.
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
from leruli_queue.embedded.kept import Kept
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs
from leruli_queue.errors import SetupError

NAMESPACE = "leruli"
_REGION = "global"
_CERTIFICATE_DAYS = 365
_POLICY = "leruli-queue"
# Children that are over stay for so long, 140 KB each; docs/developers/nomad.md says why no longer
# is needed.
_GC = "5m"
# A tenth of its CPU was Go's own collector. No limit of memory beside it: above it a server does
# little else than collect.
_GO_RUNTIME = {"GOGC": "200"}


def address(kept: Kept) -> str:
    """Return the address of Nomad's HTTP API."""
    return f"https://{kept.address}:{kept.ports.nomad_http}"


def client(folders: Folders, kept: Kept, *, timeout: float = 10) -> httpx.Client:
    """Return a client of Nomad's HTTP API with the management token."""
    context = ssl.create_default_context(cafile=folders.tls.ca)
    context.load_cert_chain(folders.tls.broker, folders.tls.broker_key)
    return httpx.Client(
        base_url=address(kept),
        verify=context,
        headers={"X-Nomad-Token": kept.nomad_management_token},
        timeout=timeout,
        trust_env=False,
    )


def write_configuration(folders: Folders, kept: Kept) -> None:
    """Write the server's configuration, and certificates for another year.

    Its state names its own address: when a port has changed since, it could not elect itself any
    more. PostgreSQL has all that matters, so that state is thrown away.
    """
    tls = folders.tls
    tls.renew(_REGION, (kept.address,), days=_CERTIFICATE_DAYS)
    path = folders.nomad_server / "server.json"
    ports = kept.ports
    configuration = {
        "data_dir": str(folders.nomad_server / "state"),
        "bind_addr": kept.address,
        "ports": {"http": ports.nomad_http, "rpc": ports.nomad_rpc, "serf": ports.nomad_serf},
        "advertise": {
            "http": f"{kept.address}:{ports.nomad_http}",
            "rpc": f"{kept.address}:{ports.nomad_rpc}",
            "serf": f"{kept.address}:{ports.nomad_serf}",
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
            "encrypt": kept.nomad_gossip_key,
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
        kept.nomad_service_token = ""
    write_private(path, text)


def server_part(folders: Folders, programs: Programs) -> Part:
    """Return the server as a part of the stack."""
    return Part(
        name="Nomad server",
        arguments=[programs.nomad, "agent", "-config", folders.nomad_server / "server.json"],
        environment={"PATH": os.environ.get("PATH", os.defpath), **_GO_RUNTIME},
        log=folders.logs / "nomad-server.log",
    )


def has_leader(folders: Folders, kept: Kept) -> bool:
    """Tell whether the server is up and has elected itself."""
    try:
        with client(folders, kept, timeout=2) as http:
            answer = http.get("/v1/status/leader")
    except httpx.HTTPError:
        return False
    return answer.is_success and bool(answer.json())


def prepare_access(folders: Folders, kept: Kept) -> None:
    """Bootstrap the ACLs, make the namespace, the service's policy and token; can be repeated."""
    with client(folders, kept) as http:
        answer = http.post(
            "/v1/acl/bootstrap", json={"BootstrapSecret": kept.nomad_management_token}
        )
        if not answer.is_success and "already done" not in answer.text:
            raise SetupError(f"Nomad's ACLs cannot be set up: {answer.text.strip()}")
        _post(http, f"/v1/namespace/{NAMESPACE}", {"Name": NAMESPACE})
        rules = (files("leruli_queue.nomad") / "jobs" / "service.policy.hcl").read_text()
        _post(http, f"/v1/acl/policy/{_POLICY}", {"Name": _POLICY, "Rules": rules})
        if not _is_valid(http, kept.nomad_service_token):
            token = {"Name": "service", "Type": "client", "Policies": [_POLICY]}
            kept.nomad_service_token = _post(http, "/v1/acl/token", token).json()["SecretID"]


def _is_valid(http: httpx.Client, token: str) -> bool:
    if not token:
        return False
    return http.get("/v1/acl/token/self", headers={"X-Nomad-Token": token}).is_success


def _post(http: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = http.post(path, json=body)
    if not answer.is_success:
        raise SetupError(f"Nomad refused {path}: {answer.text.strip()}")
    return answer
