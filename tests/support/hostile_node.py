"""A machine of one group that tries to read or disturb the jobs of another group.

It joins honestly, so it has a node's certificate, identity in Nomad and node token. Then it lies:
in its configuration, over Nomad's RPC and HTTP, and to the service.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from e2e_world import StackOfTest

from leruli_queue.embedded.plain_http import NO_AUTHORITIES
from leruli_queue.embedded.ports import free_ports

# The first byte of a connection to Nomad's RPC port names the protocol.
_TLS, _RPC = b"\x04", b"\x01"


class RpcError(Exception):
    """An error in Nomad's answer."""


class NomadRpc:
    """Nomad's RPC: Go's net/rpc with MessagePack, over mutual TLS."""

    def __init__(self, address: str, ca: Path, certificate: Path, key: Path) -> None:
        host, port = address.rsplit(":", 1)
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(certificate, key)
        plain = socket.create_connection((host, int(port)), timeout=10)
        plain.sendall(_TLS)
        self._socket = context.wrap_socket(plain, server_hostname="server.global.nomad")
        self._socket.sendall(_RPC)
        self._numbers = itertools.count()
        self._reader = msgpack.Unpacker(
            raw=False, strict_map_key=False, unicode_errors="surrogateescape"
        )

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Make a call; raise RpcError with Nomad's message if it fails."""
        header = {"ServiceMethod": method, "Seq": next(self._numbers)}
        for part in (header, arguments):
            self._socket.sendall(msgpack.packb(part, use_bin_type=False))
        answer, body = self._read(), self._read()
        if answer["Error"]:
            raise RpcError(answer["Error"])
        return dict(body or {})

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> Any:
        while True:
            try:
                return self._reader.unpack()
            except msgpack.OutOfData:
                some = self._socket.recv(65536)
                if not some:
                    raise RpcError("the connection was closed") from None
                self._reader.feed(some)


@dataclass
class HostileNode:
    """A real Nomad client with a configuration by the test."""

    folder: Path
    nomad: Path
    service_url: str
    node_id: str = ""
    token: str = ""
    group_token: str = ""
    compute_secret: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def join(self, group_token: str, compute_secret: str, **fields: Any) -> httpx.Response:
        """Join honestly, and store the answer."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        machine = {"name": "hostile", "cores": 64, "memorymb": 256000, "csr": pem.decode()}
        self.group_token, self.compute_secret = group_token, compute_secret
        secrets = {"grouptoken": group_token, "computesecret": compute_secret}
        response = self.call("node-join", **(machine | secrets | fields))
        if response.is_success:
            self.answer = response.json()
            self.node_id, self.token = self.answer["nodeid"], self.answer["nodetoken"]
            self.folder.mkdir(exist_ok=True)
            self.certificate.write_text(self.answer["tls"]["certificate"])
            self.ca.write_text(self.answer["tls"]["ca"])
            self.key.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return response

    def call(self, path: str, **body: Any) -> httpx.Response:
        """Call the service."""
        url = f"{self.service_url}/v22_1/{path}"
        return httpx.post(url, json=body, timeout=30, trust_env=False, verify=NO_AUTHORITIES)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "node.pem"

    @property
    def key(self) -> Path:
        return self.folder / "node-key.pem"

    @property
    def secret(self) -> str:
        """Nomad's secret of this node, which also gives access to some of its HTTP API."""
        return (self.folder / "data" / "client" / "secret-id").read_text().strip()

    def start(
        self,
        *,
        pool: str,
        name: str = "",
        meta: Mapping[str, str] | None = None,
        node_id: str = "",
    ) -> None:
        """Run Nomad's client, as a node of any pool with any name, meta and id."""
        state = self.folder / "data" / "client"
        state.mkdir(parents=True, exist_ok=True)
        (state / "client-id").write_text(node_id or self.node_id)
        # It has everything that jobs need, so that only the fences keep jobs away from it.
        driver = self.folder / "plugins" / "leruli"
        driver.parent.mkdir(exist_ok=True)
        driver.unlink(missing_ok=True)
        driver.symlink_to(self.nomad.with_name("leruli-driver"))
        (state / "intro_token.jwt").write_text(self.answer["nomad"]["introtoken"])
        http, rpc, serf = free_ports(3)
        configuration = {
            "name": name or self.node_id,
            "region": self.answer["nomad"]["region"],
            "datacenter": self.answer["nomad"]["datacenter"],
            "data_dir": str(self.folder / "data"),
            "bind_addr": "127.0.0.1",
            "ports": {"http": http, "rpc": rpc, "serf": serf},
            "advertise": {
                "http": f"127.0.0.1:{http}",
                "rpc": f"127.0.0.1:{rpc}",
                "serf": f"127.0.0.1:{serf}",
            },
            "disable_update_check": True,
            "acl": {"enabled": True},
            "tls": {
                "http": True,
                "rpc": True,
                "ca_file": str(self.ca),
                "cert_file": str(self.certificate),
                "key_file": str(self.key),
                "verify_server_hostname": True,
            },
            "client": {
                "enabled": True,
                "servers": self.answer["nomad"]["servers"],
                "node_pool": pool,
                "meta": dict(meta or {}),
                "cpu_total_compute": 64000,
                "memory_total_mb": 256000,
                "options": {"driver.allowlist": "leruli"},
            },
            "plugin_dir": str(driver.parent),
            "plugin": [{"leruli": {"config": {"socket": str(self.folder / "none")}}}],
        }
        path = self.folder / "nomad.json"
        path.write_text(json.dumps(configuration))
        with (self.folder / "nomad.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.nomad, "agent", "-config", path],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"]},
            )

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def rpc(self) -> NomadRpc:
        """Return a connection to Nomad's servers with this node's certificate."""
        return NomadRpc(self.answer["nomad"]["servers"][0], self.ca, self.certificate, self.key)

    def http(self, address: str, path: str, method: str = "GET", body: Any = None) -> int:
        """Return the status of Nomad's HTTP API for this node's identity."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        request = urllib.request.Request(  # noqa: S310
            f"{address}{path}",
            method=method,
            headers={"X-Nomad-Token": self.secret},
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


def node_in_nomad(stack: StackOfTest, node_id: str) -> Any:
    """Return a node as Nomad lists it; None if it does not."""
    return next((n for n in stack.nomad("/v1/nodes") if n["ID"] == node_id), None)


def is_in(stack: StackOfTest, node_id: str, pool: str) -> bool:
    """Return whether a node is ready in a pool of Nomad."""
    node = node_in_nomad(stack, node_id)
    return node is not None and node["Status"] == "ready" and node["NodePool"] == pool


def job_of(folder: Path) -> str:
    """Return the id of a folder's job."""
    return (folder / "leruli.job").read_text().strip()


def ran_once(stack: StackOfTest, folder: Path) -> None:
    """Check that the job completes in its first attempt, with the output of one run."""
    assert stack.end_gated(folder) == ("completed", None)
    attempts = stack.fetch("SELECT number FROM attempts WHERE job_id = $1::uuid", job_of(folder))
    assert [row["number"] for row in attempts] == [1]
    stack.get(folder)
    assert (folder / "log").read_text() == "begun\ndone\n"
