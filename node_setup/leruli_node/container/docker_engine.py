"""All calls to Docker. Nomad makes the containers, not this module."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from leruli_node.container.docker_answers import Listed, Usage, missing_limits, parse_usage
from leruli_node.container.docker_http import DockerAnswerError, DockerHttp

NODE_LABEL = "leruli.node"
ATTEMPT_LABEL = "leruli.attempt"
# Only of shared containers (slots/shared.py), in place of the attempt's.
SHARED_LABEL = "leruli.shared"
# Timeout of a call, in seconds.
_TIMEOUT = 60
# Docker's answers when there is no such container, and when its name is taken.
_MISSING = 404
_CONFLICT = 409


class DockerUnavailableError(Exception):
    """Docker cannot be reached or does not answer. A later try may succeed."""


class DockerRefusedError(Exception):
    """Docker answered that it cannot do this. The text is Docker's."""


class _MissingError(DockerRefusedError):
    """There is no such container."""


class DockerEngine:
    """One Docker. Safe for several threads. Connects at the first call."""

    def __init__(self, socket: Path) -> None:
        self._url = f"unix://{socket}"
        self._http = DockerHttp(socket)
        self._lock = threading.Lock()
        self._clients: dict[int, Any] = {}

    def ping(self) -> None:
        """Return when Docker answers. Raises DockerUnavailableError."""
        self._call(lambda api: api.ping())

    def is_rootless(self) -> bool:
        """Return whether this Docker runs in a user namespace of an ordinary user."""
        info = self._call(lambda api: api.info())
        return any("rootless" in option for option in info.get("SecurityOptions") or [])

    def root_folder(self) -> Path | None:
        """Return the folder of Docker's images and containers, None if it does not say it."""
        root = self._call(lambda api: api.info()).get("DockerRootDir")
        return Path(root) if root else None

    def missing_limits(self) -> list[str]:
        """Return the container limits that this Docker does not enforce: memory, CPU, processes."""
        return missing_limits(self._call(lambda api: api.info()))

    def list_own(self, nodeid: str, attempt_key: str | None = None) -> list[Listed]:
        """Return all containers, running or not, of this node's attempts or of one of them."""
        labels = [f"{NODE_LABEL}={nodeid}"]
        if attempt_key is not None:
            labels.append(f"{ATTEMPT_LABEL}={attempt_key}")
        query = {"all": "1", "filters": json.dumps({"label": labels})}
        return [
            Listed(c["Id"], (c.get("Labels") or {}).get(ATTEMPT_LABEL, ""), c.get("State", ""))
            for c in self._ask("GET", "/containers/json", query)
            if SHARED_LABEL not in (c.get("Labels") or {})
        ]

    def list_shared(self, nodeid: str) -> list[tuple[str, str]]:
        """Return all shared containers of this node, each with the value of its label."""
        labels = [f"{NODE_LABEL}={nodeid}", SHARED_LABEL]
        query = {"all": "1", "filters": json.dumps({"label": labels})}
        found = self._ask("GET", "/containers/json", query)
        return [(c["Id"], c["Labels"][SHARED_LABEL]) for c in found]

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Return Docker's description of a container, None if there is no such container."""
        try:
            return dict(self._ask("GET", f"/containers/{container}/json"))
        except _MissingError:
            return None

    def create(self, name: str, described: dict[str, Any]) -> bool:
        """Make a container by Docker's own description. Return False if its name is taken."""
        try:
            self._ask("POST", "/containers/create", {"name": name}, described)
            return True
        except DockerRefusedError as error:
            cause = error.__cause__
            if isinstance(cause, DockerAnswerError) and cause.status == _CONFLICT:
                return False
            raise

    def start(self, container: str) -> None:
        """Start a container that was made; nothing happens where it runs."""
        self._ask("POST", f"/containers/{container}/start")

    def wait(self, container: str, timeout: float) -> bool:
        """Wait for the end of a container. Return whether it is over; a missing one is over."""
        try:
            with _errors():
                return self._http.wait(container, timeout)
        except _MissingError:
            return True

    def image_environment(self, image: str) -> list[str]:
        """The environment that an image sets, as `NAME=value`; none if it is not here."""
        try:
            found = self._ask("GET", f"/images/{image}/json")
        except _MissingError:
            return []
        return list((found.get("Config") or {}).get("Env") or [])

    def signal(self, container: str, name: str) -> None:
        """Send a signal to a container's first process. A stopped container is no error."""
        with contextlib.suppress(DockerRefusedError):
            self._ask("POST", f"/containers/{container}/kill", {"signal": name})

    def remove(self, container: str) -> None:
        """Remove a container, killing it if it runs. A missing container is no error."""
        try:
            self._ask("DELETE", f"/containers/{container}", {"v": "1", "force": "1"})
        except _MissingError:
            return
        except DockerRefusedError as error:
            if "already in progress" not in str(error):
                raise

    def usage(self, container: str) -> Usage | None:
        """Return a sample of memory and CPU time, None if the container does not run."""
        query = {"stream": "false", "one-shot": "true"}
        try:
            # Nothing, when the container ended during the call.
            stats = self._ask("GET", f"/containers/{container}/stats", query) or {}
        except DockerRefusedError:
            return None
        return parse_usage(stats)

    def layer_folder(self, container: str) -> str | None:
        """Return the folder of a container's own layer, None if Docker does not name it."""
        inspected = self.inspect(container) or {}
        data = (inspected.get("GraphDriver") or {}).get("Data") or {}
        return data.get("UpperDir") or None

    def layer_bytes(self, container: str) -> int:
        """Return the bytes in a container's own layer, as Docker counts them (slowly)."""

        def read(api: Any) -> int:
            url = api._url(
                "/containers/{0}/json", container
            )  # the SDK has no parameter for the size
            return int(api._result(api._get(url, params={"size": 1}), True).get("SizeRw") or 0)

        try:
            return int(self._call(read, timeout=600))
        except docker.errors.NotFound:
            return 0

    def was_signalled(self, container: str, since: float, until: float) -> bool:
        """Return whether Docker's events say that TERM or KILL was sent to this container."""

        def read(api: Any) -> bool:
            events = api.events(
                # The wall clock may have been set back in between.
                since=f"{min(since, until):.9f}",
                # The event is recorded a little after the kill. With an end in the future Docker
                # would wait for it.
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
        """Return the id of the image of this name, None if there is none."""
        try:
            return str(self._ask("GET", f"/images/{reference}/json")["Id"])
        except _MissingError:
            return None

    def names_of(self, reference: str) -> frozenset[str]:
        """Return all names of the image of this name, including this one; none if it is missing."""
        try:
            image = self._ask("GET", f"/images/{reference}/json")
        except _MissingError:
            return frozenset()
        return frozenset(image.get("RepoTags") or [])

    def image_names(self, prefix: str = "", timeout: int = _TIMEOUT) -> dict[str, str]:
        """Return all image names that begin with `prefix`, with the image's id."""
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
        """Remove a name of an image. An image without names is deleted.

        An image that is in use or missing is no error.
        """
        try:
            self._call(lambda api: api.remove_image(reference, force=False, noprune=False))
        except (docker.errors.NotFound, DockerRefusedError):
            return

    def load(self, chunks: Iterable[bytes]) -> list[str]:
        """Load an image from a stream, as `docker load`. Return the names or ids that were loaded.

        Raises
        ------
        DockerRefusedError
            The stream is not an image.
        Exception
            Errors of `chunks`.
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
        """Return whether an image has a file or folder at a path.

        A container is made for the check, but not started.
        """

        def check(api: Any) -> bool:
            made = api.create_container(image, command=["/"], network_disabled=True)
            try:
                stream, _ = api.get_archive(made["Id"], path)
                stream.close()
                return True
            except docker.errors.NotFound as error:
                if "no such container" in str(error).lower():
                    # Somebody removed the container (`docker system prune`).
                    raise DockerRefusedError(str(error.explanation)) from error
                return False
            finally:
                with contextlib.suppress(docker.errors.NotFound):
                    api.remove_container(made["Id"], v=True, force=True)

        return bool(self._call(check))

    def _ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Any = None
    ) -> Any:
        with _errors():
            return self._http.call(method, path, query, body, _TIMEOUT)

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


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except DockerAnswerError as error:
        kind = _MissingError if error.status == _MISSING else DockerRefusedError
        raise kind(str(error)) from error
    except (OSError, EOFError, ValueError) as error:
        raise DockerUnavailableError(type(error).__name__) from error
