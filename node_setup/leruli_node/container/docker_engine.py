"""Everything that the agent asks of Docker. Containers are made by Nomad, not here."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from leruli_node.model import ContainerFacts

NODE_LABEL = "leruli.node"
ATTEMPT_LABEL = "leruli.attempt"
# Seconds that Docker may take to answer.
_TIMEOUT = 60


class DockerUnavailableError(Exception):
    """Docker cannot be reached or does not answer; later it may."""


class DockerRefusedError(Exception):
    """Docker answered that it cannot do this; the text is its own."""


@dataclass(frozen=True)
class Listed:
    """One own container in the list; `state` is Docker's word (running, exited, created, …)."""

    id: str
    attempt_key: str
    state: str


@dataclass(frozen=True)
class Usage:
    """A sample of a running container: peak memory in MB and CPU seconds so far."""

    memory_mb: int | None
    cpu_seconds: float | None


class DockerEngine:
    """One Docker; safe to use from several threads; connects when first needed."""

    def __init__(self, socket: Path) -> None:
        self._url = f"unix://{socket}"
        self._lock = threading.Lock()
        self._clients: dict[int, Any] = {}

    def ping(self) -> None:
        """Return when Docker answers; DockerUnavailableError otherwise."""
        self._call(lambda api: api.ping())

    def is_rootless(self) -> bool:
        """Whether this Docker runs in a user namespace of an ordinary user."""
        info = self._call(lambda api: api.info())
        return any("rootless" in option for option in info.get("SecurityOptions") or [])

    def root_folder(self) -> Path | None:
        """The folder in which this Docker keeps images and containers; None if it does not say."""
        root = self._call(lambda api: api.info()).get("DockerRootDir")
        return Path(root) if root else None

    def missing_limits(self) -> list[str]:
        """Which limits of containers this Docker does not enforce: memory, CPU, processes."""
        return missing_limits(self._call(lambda api: api.info()))

    def list_own(self, nodeid: str, attempt_key: str | None = None) -> list[Listed]:
        """All containers, running or not, of this node's attempts, or of one of them."""
        labels = [f"{NODE_LABEL}={nodeid}"]
        if attempt_key is not None:
            labels.append(f"{ATTEMPT_LABEL}={attempt_key}")
        found = self._call(lambda api: api.containers(all=True, filters={"label": labels}))
        return [
            Listed(c["Id"], (c.get("Labels") or {}).get(ATTEMPT_LABEL, ""), c.get("State", ""))
            for c in found
        ]

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Docker's description of a container, None when there is no such."""
        try:
            return dict(self._call(lambda api: api.inspect_container(container)))
        except docker.errors.NotFound:
            return None

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container's first process; one that is not running is no error."""
        try:
            self._call(lambda api: api.kill(container, name))
        except (docker.errors.NotFound, DockerRefusedError):
            return

    def remove(self, container: str) -> None:
        """Remove a container, killing it if need be; one that is gone is no error."""
        try:
            self._call(lambda api: api.remove_container(container, v=True, force=True))
        except docker.errors.NotFound:
            return
        except DockerRefusedError as error:
            if "already in progress" not in str(error):
                raise

    def usage(self, container: str) -> Usage | None:
        """A sample of memory and CPU time, None when the container is not running."""

        def read(api: Any) -> dict[str, Any]:
            try:
                return dict(api.stats(container, stream=False, one_shot=True))
            except ValueError:
                # It ended while Docker was asked, which is then answered with nothing at all.
                return {}

        try:
            stats = self._call(read)
        except (docker.errors.NotFound, DockerRefusedError):
            return None
        return parse_usage(stats)

    def layer_folder(self, container: str) -> str | None:
        """The folder of what a container wrote beside its mounts; None where Docker names none."""
        inspected = self.inspect(container) or {}
        data = (inspected.get("GraphDriver") or {}).get("Data") or {}
        return data.get("UpperDir") or None

    def layer_bytes(self, container: str) -> int:
        """What a container wrote beside its mounts, in bytes, as Docker counts it: slowly."""

        def read(api: Any) -> int:
            url = api._url("/containers/{0}/json", container)  # the SDK cannot ask for the size
            return int(api._result(api._get(url, params={"size": 1}), True).get("SizeRw") or 0)

        try:
            return int(self._call(read, timeout=600))
        except docker.errors.NotFound:
            return 0

    def was_signalled(self, container: str, since: float, until: float) -> bool:
        """Whether Docker remembers that somebody sent TERM or KILL to this container."""

        def read(api: Any) -> bool:
            events = api.events(
                # The wall clock may have been set back meanwhile.
                since=f"{min(since, until):.9f}",
                # The kill is noted a little after it worked. An end in the future would make
                # Docker wait for it.
                until=f"{min(max(since, until) + 2.0, time.time()):.9f}",
                filters={"container": container, "event": "kill"},
                decode=True,
            )
            wanted = ("15", "9")
            return any(e["Actor"]["Attributes"].get("signal") in wanted for e in events)

        try:
            return bool(self._call(read))
        except (DockerRefusedError, KeyError):
            return False

    def image_id(self, reference: str) -> str | None:
        """The id of the image of this name, None when there is none."""
        try:
            return str(self._call(lambda api: api.inspect_image(reference))["Id"])
        except docker.errors.NotFound:
            return None

    def names_of(self, reference: str) -> frozenset[str]:
        """All names of the image that this name stands for, it included; none if it is not here."""
        try:
            image = self._call(lambda api: api.inspect_image(reference))
        except docker.errors.NotFound:
            return frozenset()
        return frozenset(image.get("RepoTags") or [])

    def image_names(self, prefix: str = "", timeout: int = _TIMEOUT) -> dict[str, str]:
        """All image names (that begin with `prefix`) with the image's id."""
        images = self._call(lambda api: api.images(), timeout)
        return {
            name: image["Id"]
            for image in images
            for name in image.get("RepoTags") or []
            if name.startswith(prefix) and not name.startswith("<none>")
        }

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image a further name."""
        try:
            self._call(lambda api: api.tag(image, repository, tag, force=True))
        except docker.errors.NotFound as error:
            raise DockerRefusedError("the image is not there any more") from error

    def untag(self, reference: str) -> None:
        """Take a name off an image; an image without names goes. In use or gone is no error."""
        try:
            self._call(lambda api: api.remove_image(reference, force=False, noprune=False))
        except (docker.errors.NotFound, DockerRefusedError):
            return

    def load(self, chunks: Iterable[bytes]) -> list[str]:
        """`docker load` of a stream: the names or ids that it brought.

        Raises DockerRefusedError when it is not an image; what `chunks` raises passes through.
        """

        def read(api: Any) -> list[str]:
            loaded = []
            for line in api.load_image(chunks):
                if "errorDetail" in line or "error" in line:
                    detail = line.get("errorDetail") or {}
                    raise DockerRefusedError(str(detail.get("message") or line.get("error")))
                found = re.match(r"Loaded image(?: ID)?: (\S+)", line.get("stream") or "")
                if found:
                    loaded.append(found.group(1))
            return loaded

        return list(self._call(read, timeout=3600))

    def has_file(self, image: str, path: str) -> bool:
        """Whether an image has something at a path (a container is made for it, not started)."""

        def look(api: Any) -> bool:
            made = api.create_container(image, command=["/"], network_disabled=True)
            try:
                stream, _ = api.get_archive(made["Id"], path)
                stream.close()
                return True
            except docker.errors.NotFound as error:
                if "no such container" in str(error).lower():
                    # Somebody removes containers that do not run (`docker system prune`).
                    raise DockerRefusedError(str(error.explanation)) from error
                return False
            finally:
                with contextlib.suppress(docker.errors.NotFound):
                    api.remove_container(made["Id"], v=True, force=True)

        return bool(self._call(look))

    def _call(self, call: Any, timeout: int = _TIMEOUT) -> Any:
        try:
            return call(self._client(timeout))
        except docker.errors.NotFound:
            raise
        except docker.errors.APIError as error:
            raise DockerRefusedError(str(error.explanation or error)) from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise DockerUnavailableError(type(error).__name__) from error

    def _client(self, timeout: int) -> Any:
        with self._lock:
            if timeout not in self._clients:
                self._clients[timeout] = docker.APIClient(
                    base_url=self._url, version="auto", timeout=timeout, num_pools=32
                )
            return self._clients[timeout]


def container_facts(inspected: dict[str, Any]) -> ContainerFacts:
    """What outcome.decide needs from Docker's description."""
    state = inspected["State"]
    return ContainerFacts(
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        started_at=parse_time(state.get("StartedAt")),
        finished_at=parse_time(state.get("FinishedAt")),
        error=str(state.get("Error") or ""),
    )


def missing_limits(info: dict[str, Any]) -> list[str]:
    """What Docker's description of itself says that it cannot limit, in words."""
    words = {"MemoryLimit": "memory", "CpuCfsQuota": "CPU", "PidsLimit": "processes"}
    return [word for name, word in words.items() if not info.get(name)]


def parse_time(text: str | None) -> float | None:
    """Docker's time as seconds since 1970; None for its year 1, which means "never"."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z", text or "")
    if found is None or found.group(1).startswith("0001"):
        return None
    zone = "+00:00" if found.group(3) == "Z" else found.group(3)
    whole = datetime.fromisoformat(found.group(1) + zone).astimezone(timezone.utc)
    return whole.timestamp() + float(found.group(2) or 0)


def parse_usage(stats: dict[str, Any]) -> Usage | None:
    """Peak memory and CPU time in Docker's statistics; None when there are none."""
    memory, cpu = stats.get("memory_stats") or {}, (stats.get("cpu_stats") or {}).get("cpu_usage")
    # cgroup v1 keeps the peak itself; v2 has the present use, whose cache can be given back.
    used = memory.get("max_usage")
    if used is None and memory.get("usage") is not None:
        cache = (memory.get("stats") or {}).get("inactive_file", 0)
        used = max(0, memory["usage"] - cache)
    nanoseconds = (cpu or {}).get("total_usage")
    if used is None and not nanoseconds:
        return None
    return Usage(
        memory_mb=None if used is None else -(-int(used) // 2**20),
        cpu_seconds=nanoseconds / 1e9 if nanoseconds else None,
    )
