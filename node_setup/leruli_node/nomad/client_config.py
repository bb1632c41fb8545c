"""The configuration of Nomad's client, and the other files that it reads when it starts."""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

from leruli_node.folders import Folders, write_file
from leruli_node.nomad.certificate import NodeTls
from leruli_node.nomad.data_folder import remove_nomad_data
from leruli_node.service.membership import Membership
from leruli_node.settings import Settings

log = logging.getLogger(__name__)

# The task driver of jobs (node_setup/nomad/driver). Nomad knows it by this name, which is also its
# file's name.
DRIVER = "leruli"


def client_config(
    settings: Settings,
    folders: Folders,
    tls: NodeTls,
    joined: Membership,
    ports: tuple[int, int, int],
) -> dict[str, Any]:
    """Return the client's configuration, to be written as JSON. It holds no secret.

    `ports` are http, rpc and serf on 127.0.0.1. A client listens on the first only.
    """
    http, rpc, serf = ports
    return {
        "region": joined.region,
        "datacenter": joined.datacenter,
        "name": joined.nodeid,
        "data_dir": str(folders.nomad_data),
        "plugin_dir": str(folders.nomad_plugins),
        "bind_addr": "127.0.0.1",
        "ports": {"http": http, "rpc": rpc, "serf": serf},
        "advertise": {
            "http": f"127.0.0.1:{http}",
            "rpc": f"127.0.0.1:{rpc}",
            "serf": f"127.0.0.1:{serf}",
        },
        "log_level": "INFO",
        "disable_update_check": True,
        "disable_anonymous_signature": True,
        "leave_on_interrupt": False,
        "leave_on_terminate": False,
        "server": {"enabled": False},
        "ui": {"enabled": False},
        "acl": {"enabled": True},
        "tls": {
            "http": True,
            "rpc": True,
            "ca_file": str(tls.ca_file),
            "cert_file": str(tls.certificate_file),
            "key_file": str(tls.key_file),
            "verify_server_hostname": True,
            "verify_https_client": True,
        },
        "telemetry": {
            # Nobody reads these metrics: the agent measures its jobs itself.
            "collection_interval": "60s",
            "publish_allocation_metrics": False,
            "publish_node_metrics": False,
        },
        "client": _client(settings, folders, joined),
        "plugin": [{DRIVER: {"config": _driver(settings, folders)}}],
    }


def _client(settings: Settings, folders: Folders, joined: Membership) -> dict[str, Any]:
    return {
        "enabled": True,
        "servers": joined.servers,
        "node_pool": joined.pool,
        "meta": {"leruli_jobs": str(folders.jobs)},
        "cpu_total_compute": settings.cores * 1000,
        "memory_total_mb": settings.memory_mb,
        "max_kill_timeout": "120s",
        "disable_remote_exec": True,
        # The folder of a finished allocation holds no data of ours, but keeps three file systems
        # mounted. runc and Nomad read the list of all mounts many times a job.
        "gc_max_allocs": settings.cores + 8,
        "gc_interval": "30s",
        "gc_parallel_destroys": 4,
        "options": {
            "driver.allowlist": DRIVER,
            "fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean",
        },
    }


def _driver(settings: Settings, folders: Folders) -> dict[str, Any]:
    return {
        "socket": str(folders.socket),
        # The settings below are for Nomad's docker driver, which is part of ours.
        "endpoint": f"unix://{settings.docker_socket}",
        "disable_log_collection": True,
        "allow_privileged": False,
        "volumes": {"enabled": True},
        "gc": {
            # The agent reads the exit of a container and then removes it.
            "container": False,
            "image": False,
            "dangling_containers": {"enabled": False},
        },
    }


def write_config(
    settings: Settings,
    folders: Folders,
    tls: NodeTls,
    joined: Membership,
    earlier_port: int | None,
) -> int:
    """Write configuration, certificate, node id and introduction token where Nomad reads them.

    The node id is written before Nomad's first start, so that Nomad uses the id that the service
    knows. If the id changed, Nomad's data of the old one is removed.

    Returns
    -------
    The http port.
    """
    port = settings.nomad_port or earlier_port or 0
    if not settings.nomad_port and not (port and _is_free(port)):
        port = free_port()
    config = client_config(settings, folders, tls, joined, (port, free_port(), free_port()))
    state = folders.nomad_data / "client"
    id_file = state / "client-id"
    if id_file.exists() and id_file.read_text(encoding="ascii").strip() != joined.nodeid:
        log.warning("the service gave this node a new id; removing Nomad's state of the old one")
        remove_nomad_data(folders.nomad_data)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(id_file, joined.nodeid.encode())
    write_file(state / "intro_token.jwt", joined.introtoken.encode())
    tls.write_first(joined.certificate)
    write_file(folders.nomad_config, json.dumps(config, indent=1).encode())
    return port


def link_driver(folders: Folders, program: Path) -> None:
    """Link the task driver into the plugin folder, which holds nothing else."""
    link = folders.nomad_plugins / DRIVER
    # An agent that was killed in between may have left this link.
    begun = link.with_name(f".{DRIVER}.tmp")
    begun.unlink(missing_ok=True)
    begun.symlink_to(program)
    os.replace(begun, link)


def free_port() -> int:
    """Return a port on 127.0.0.1 that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
