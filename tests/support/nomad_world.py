"""A real Nomad server for tests of the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files

from leruli_queue.embedded import nomad_server
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.state import StackState, choose_ports
from leruli_queue.settings import Settings


@dataclass
class NomadOfTest:
    """A real Nomad server and the settings to connect to it."""

    state: StackState
    folders: Folders
    part: Part

    def settings(self, settings: Settings, **changes: object) -> Settings:
        ours = {
            "nomad_address": nomad_server.address(self.state),
            "nomad_token": self.state.nomad_service_token,
            "nomad_servers": f"127.0.0.1:{self.state.ports.nomad_rpc}",
        }
        return Settings(**(settings.model_dump() | ours | changes))

    def make_token(self, namespace: str = nomad_server.NAMESPACE) -> tuple[str, str]:
        """Make a token like the service's for a namespace; return its accessor and the token."""
        rules = (files("leruli_queue.nomad") / "jobs" / "service.policy.hcl").read_text()
        policy = f"service-{namespace}"
        with nomad_server.client(self.folders, self.state) as http:
            body = {"Name": policy, "Rules": rules.replace('"leruli"', f'"{namespace}"')}
            http.post(f"/v1/acl/policy/{policy}", json=body).raise_for_status()
            body = {"Name": "test", "Type": "client", "Policies": [policy]}
            made = http.post("/v1/acl/token", json=body).raise_for_status().json()
        return made["AccessorID"], made["SecretID"]

    def revoke_token(self, accessor: str) -> None:
        with nomad_server.client(self.folders, self.state) as http:
            http.delete(f"/v1/acl/token/{accessor}").raise_for_status()


@contextmanager
def running_nomad(folders: Folders, programs: Programs) -> Iterator[NomadOfTest]:
    state = StackState()
    choose_ports(state, wanted_service_port=None)
    nomad_server.write_configuration(folders, state)
    part = nomad_server.server_part(folders, programs)
    part.start()
    try:
        part.wait_until(lambda: nomad_server.has_leader(folders, state), seconds=60)
        nomad_server.prepare_access(folders, state)
        # For a moment a server that has just started has no signing key.
        part.wait_until(lambda: _can_sign(folders, state), seconds=30)
        yield NomadOfTest(state, folders, part)
    finally:
        part.stop()


def _can_sign(folders: Folders, state: StackState) -> bool:
    with nomad_server.client(folders, state) as http:
        wanted = {"NodePool": "default", "NodeName": "nobody", "TTL": "1s"}
        path = "/v1/acl/identity/client-introduction-token"
        return http.post(path, json=wanted).is_success
