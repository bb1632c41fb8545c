"""Nomad's client on this node: its configuration, and a thread that keeps it running."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from leruli_node.files.remove_tree import remove_tree
from leruli_node.folders import Folders, write_file
from leruli_node.nomad import die_with_parent, orphans
from leruli_node.nomad.certificate import NodeTls
from leruli_node.service.membership import Membership
from leruli_node.settings import Settings

log = logging.getLogger(__name__)

_LOG_BYTES = 10 * 2**20
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "USER")
# Garbage is collected at three times of what is alive, not at twice. No limit of memory beside it:
# a client with more alive than the limit does little else than collect, which a soak showed.
_GO_RUNTIME = {"GOGC": "200"}
# The task driver of jobs (node_setup/nomad/driver): Nomad knows it by this name, also of its file.
DRIVER = "leruli"
# Nomad was well when it ran this long (seconds): the next restart is quick again.
_WELL = 60.0


def client_config(
    settings: Settings,
    folders: Folders,
    tls: NodeTls,
    joined: Membership,
    ports: tuple[int, int, int],
) -> dict[str, Any]:
    """The client's configuration, to be written as JSON. It holds no secret.

    `ports` are http, rpc and serf on 127.0.0.1; a client listens on the first only.
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
            # Nobody reads these: the agent measures its jobs itself, and the machine is not ours.
            "collection_interval": "60s",
            "publish_allocation_metrics": False,
            "publish_node_metrics": False,
        },
        "client": {
            "enabled": True,
            "servers": joined.servers,
            "node_pool": joined.pool,
            "meta": {"leruli_jobs": str(folders.jobs)},
            "cpu_total_compute": settings.cores * 1000,
            "memory_total_mb": settings.memory_mb,
            "max_kill_timeout": "120s",
            "disable_remote_exec": True,
            # Nothing of ours is in the folder of an allocation that is over, and three file systems
            # stay mounted in it: runc and Nomad read the list of all mounts many times a job.
            "gc_max_allocs": settings.cores + 8,
            "gc_interval": "30s",
            "gc_parallel_destroys": 4,
            "options": {
                "driver.allowlist": DRIVER,
                "fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean",
            },
        },
        "plugin": [
            {
                DRIVER: {
                    "config": {
                        "socket": str(folders.socket),
                        # The rest is for the docker driver in it.
                        "endpoint": f"unix://{settings.docker_socket}",
                        "disable_log_collection": True,
                        "allow_privileged": False,
                        "volumes": {"enabled": True},
                        "gc": {
                            # The agent reads how a container ended and removes it.
                            "container": False,
                            "image": False,
                            "dangling_containers": {"enabled": False},
                        },
                    }
                }
            },
        ],
    }


def write_config(
    settings: Settings,
    folders: Folders,
    tls: NodeTls,
    joined: Membership,
    earlier_port: int | None,
) -> int:
    """Write configuration, certificate, node id and introduction token where Nomad reads them.

    Returns the http port. The node id is written before Nomad's first start, so that the node has
    the id that the service knows; with another id than before everything of the old one is removed.
    """
    port = settings.nomad_port or earlier_port or 0
    if not settings.nomad_port and not (port and _is_free(port)):
        port = free_port()
    config = client_config(settings, folders, tls, joined, (port, free_port(), free_port()))
    state = folders.nomad_data / "client"
    id_file = state / "client-id"
    if id_file.exists() and id_file.read_text(encoding="ascii").strip() != joined.nodeid:
        log.warning("the service gave this node a new id; Nomad's state of the old one goes")
        _remove_nomad_data(folders.nomad_data)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file(id_file, joined.nodeid.encode())
    write_file(state / "intro_token.jwt", joined.introtoken.encode())
    tls.write_first(joined.certificate)
    write_file(folders.nomad_config, json.dumps(config, indent=1).encode())
    return port


def link_driver(folders: Folders, program: Path) -> None:
    """Have Nomad find the task driver, in a folder in which there is nothing else."""
    link = folders.nomad_plugins / DRIVER
    # Left of an agent that was killed in between, it is as good as new.
    begun = link.with_name(f".{DRIVER}.tmp")
    begun.unlink(missing_ok=True)
    begun.symlink_to(program)
    os.replace(begun, link)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
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


def remove_allocations(folder: Path) -> None:
    """Remove the folders of all allocations, for a client that is stopped and has nothing to run.

    Nomad leaves them, with what is mounted in them, until its own collection comes round; a node
    that was shut down should leave nothing mounted. Removed whole, because Nomad's collection
    fails at a folder whose mount is gone, but not at one that is not there.
    """
    _unmount_below(folder)
    for part in ("alloc", "alloc_mounts"):
        for allocation in (folder / part).glob("*"):
            remove_tree(allocation)


def _remove_nomad_data(folder: Path) -> None:
    _unmount_below(folder)
    for part in folder.iterdir():
        remove_tree(part)


def _unmount_below(folder: Path) -> None:
    # Nomad mounts a small memory file system in each allocation of root's.
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    for line in reversed(mounts.splitlines()):
        point = line.split(" ")[1]
        if point.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", "--", point], check=False, capture_output=True)


class NomadClient:
    """Runs `nomad agent` as a child, again whenever it ends, until told to stop."""

    def __init__(self, program: Path, folders: Folders) -> None:
        self._program = program
        self._folders = folders
        self._log_file = folders.logs / "nomad.log"
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_after_s = 15.0
        self._was_started = False
        # The signal at the parent's end is bound to the thread that forked: this one lives as
        # long as the agent.
        self._thread = threading.Thread(target=self._run, name="nomad", daemon=True)

    def start(self) -> None:
        """Start Nomad and keep it running."""
        self._was_started = True
        self._thread.start()

    @property
    def was_started(self) -> bool:
        """Whether `start` was called: before that there is nothing of this run's to end."""
        return self._was_started

    def reload(self) -> None:
        """Have Nomad read its certificate again; what it runs is not touched."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGHUP)

    def stop(self, kill_after_s: float) -> None:
        """End Nomad: TERM, after `kill_after_s` seconds KILL."""
        self._kill_after_s = kill_after_s
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=kill_after_s + 5.0)

    def _run(self) -> None:
        delay = 1.0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._process = self._spawn()
            except OSError as error:
                log.error("Nomad cannot be started: %s", error.strerror)
            else:
                log.info("Nomad started", extra={"pid": self._process.pid})
                while self._process.poll() is None and not self._stop.wait(0.5):
                    self._rotate_log()
                    orphans.reap({self._process.pid})
                if self._stop.is_set():
                    break
                code = self._process.returncode
                log.error("Nomad ended with code %s; starting it again", code)
            delay = 1.0 if time.monotonic() - started > _WELL else min(60.0, delay * 2)
            self._stop.wait(delay)
        self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-I",
            "-S",
            os.path.abspath(die_with_parent.__file__),
            str(os.getpid()),
        ]
        command += [str(self._program), "agent", f"-config={self._folders.nomad_config}"]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment.update(_GO_RUNTIME)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log_file = os.open(self._log_file, flags, 0o600)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env=environment,
                cwd="/",
                # Ctrl-C in a terminal is for the agent, which ends Nomad in order.
                start_new_session=True,
            )
        finally:
            os.close(log_file)

    def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self._kill_after_s)
        except subprocess.TimeoutExpired:
            log.warning("Nomad does not end; killing it")
            process.kill()
            process.wait()

    def _rotate_log(self) -> None:
        """Nomad appends to one open file, so that is copied and emptied: two files at most."""
        try:
            if self._log_file.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self._log_file, self._log_file.with_suffix(".log.1"))
                os.truncate(self._log_file, 0)
        except OSError as error:
            log.warning("Nomad's log cannot be rotated: %s", error.strerror)
