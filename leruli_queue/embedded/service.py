"""The service, the dispatcher and the node agent as parts of the stack."""

from __future__ import annotations

import os
import sys

import httpx

from leruli_queue.embedded import nomad_server, object_store, plain_http, postgres
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.identities import service_url
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.state import StackState
from leruli_queue.nomad.names import NODE_DRIVER
from leruli_queue.settings import PREFIX, Settings


def service_environment(folders: Folders, state: StackState) -> dict[str, str]:
    """Return the environment of `serve` and `dispatch`.

    Settings of the person who starts the stack pass through, except for those that the stack sets.
    """
    ours = {
        "DATABASE_URL": postgres.database_url(folders, state),
        "LISTEN_HOST": state.address,
        # Who gives the stack another address (`up --address`) trusts that network.
        "ALLOW_PLAIN_HTTP": "true",
        "LISTEN_PORT": str(state.ports.service),
        "NOMAD_ADDRESS": nomad_server.address(state),
        "NOMAD_TOKEN": state.nomad_service_token,
        "NOMAD_NAMESPACE": nomad_server.NAMESPACE,
        "NOMAD_SERVERS": f"{state.address}:{state.ports.nomad_rpc}",
        "NOMAD_CA_FILE": str(folders.tls.ca),
        "NOMAD_CA_KEY_FILE": str(folders.tls.ca_key),
        "NOMAD_CERT_FILE": str(folders.tls.broker),
        "NOMAD_KEY_FILE": str(folders.tls.broker_key),
    }
    # Only the stack's own end makes this node leave. Jobs that still run then are requeued.
    defaults = {f"{PREFIX}DRAIN_DEADLINE_S": "1"}
    return {
        **defaults,
        **os.environ,
        **{f"{PREFIX}{name}": value for name, value in ours.items()},
    }


def service_settings(folders: Folders, state: StackState) -> Settings:
    """Return the settings for the stack's own calls into the service."""
    return Settings(database_url=postgres.database_url(folders, state))


def serve_part(folders: Folders, state: StackState) -> Part:
    """Return the HTTP service as a part of the stack."""
    return Part(
        name="service",
        arguments=[sys.executable, "-m", "leruli_queue", "serve"],
        environment=service_environment(folders, state),
        log=folders.logs / "serve.log",
    )


def dispatch_part(folders: Folders, state: StackState) -> Part:
    """Return the dispatcher as a part of the stack."""
    return Part(
        name="dispatcher",
        arguments=[sys.executable, "-m", "leruli_queue", "dispatch"],
        environment=service_environment(folders, state),
        log=folders.logs / "dispatch.log",
    )


def node_part(folders: Folders, state: StackState, programs: Programs) -> Part:
    """Return this machine's node agent as a part of the stack. It joins like any other."""
    ours = {
        "LERULI_BASEURL": service_url(state),
        "LERULI_GROUP_TOKEN": state.group_token,
        "LERULI_COMPUTE_SECRET": state.compute_secret,
        "LERULI_S3_SERVER": object_store.url(state),
        "LERULI_S3_REGION": object_store.REGION,
        "LERULI_S3_ACCESS": state.object_store_access,
        "LERULI_S3_SECRET": state.object_store_secret,
        "LERULI_ALLOW_PLAIN_HTTP": "1",
        "LERULI_NODE_DIR": str(folders.node),
        "LERULI_NODE_DOCKER_SOCKET": str(programs.docker_socket),
        "LERULI_NODE_NOMAD": str(programs.nomad),
        "LERULI_NODE_DRIVER": str(programs.driver),
        "LERULI_NODE_RUNNER": str(programs.runner),
    }
    return Part(
        name="node",
        arguments=[programs.node_agent, "run"],
        environment={**os.environ, **ours},
        log=folders.logs / "node.log",
        # The service refuses the node: its compute secret was rotated, or an admin removed it.
        final_code=77,
        # The agent drains first: containers get TERM, then KILL, and their output is uploaded.
        stop_timeout_s=180.0,
    )


def is_ready(state: StackState) -> bool:
    """Tell whether the service can answer requests."""
    return plain_http.answers(f"{service_url(state)}/readyz")


def node_is_ready(folders: Folders, state: StackState) -> bool:
    """Tell whether Nomad has a node that can run containers."""
    try:
        with nomad_server.client(folders, state, timeout=2) as http:
            answer = http.get("/v1/nodes")
    except httpx.HTTPError:
        return False
    return answer.is_success and any(
        node["Status"] == "ready"
        and node["SchedulingEligibility"] == "eligible"
        and node["Drivers"].get(NODE_DRIVER, {}).get("Healthy")
        for node in answer.json()
    )
