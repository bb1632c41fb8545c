"""Images: is the published one here? otherwise fetch and load it, once however many wait.

A published image is known to Docker under three names: `<prefix>/<code>:<version>` for people,
`<prefix>-etag/<code>:<hash of version>-<hash of the object's ETag>`, which says which object it was
loaded from, and the one that attempt-start answers, which Nomad runs and which tells other groups
nothing. It is current when the first two stand for the same image and the ETag is that of the
object now in the store. All begin with the group's key id, so agents of two groups on one Docker do
not disturb each other.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leruli_node.docker_engine import DockerAway, DockerEngine, DockerRefused
from leruli_node.errors import AttemptProblem, Interrupted, describe
from leruli_node.image_store import ImageStore
from leruli_node.object_store import NotThere, ObjectStore, StoreAway, Unstorable
from leruli_node.retry import Backoff, Stop

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}\Z")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


def image_name(prefix: str, code: str, version: str) -> str:
    """The name under which people know a published image."""
    return f"{prefix}/{code}:{version}"


def etag_name(prefix: str, code: str, version: str, etag: str) -> str:
    """The name that binds an image to code, version and the ETag of its object."""
    return f"{prefix}-etag/{code}:{_short(version)}-{_short(etag)}"


class Images:
    """The group's images on this node's Docker."""

    def __init__(
        self,
        engine: DockerEngine,
        store: ObjectStore | ImageStore,
        group_token: str,
        locks: Path,
        patience: float,
    ) -> None:
        self._engine = engine
        self._store = store
        self._bucket = f"code-{group_token}"
        self._patience = patience
        # One load at a time on one Docker, also between agents: what a load brought is told by
        # the names before and after it.
        self._load_file = locks / "docker-load.lock"
        self._guard = threading.Lock()
        self._waiting: dict[str, threading.Lock] = {}
        self._broken: dict[str, str] = {}

    def ensure(self, prefix: str, code: str, version: str, run_as: str, stop: Stop) -> None:
        """Return when the published image is here, also under the name that Nomad runs.

        Raises AttemptProblem (image_unknown, image_broken, node_trouble), Interrupted.
        """
        if not _NAME.match(code) or not _VERSION.match(version):
            raise AttemptProblem("image_unknown", f"{code}:{version} is not a name of an image")
        backoff = Backoff(stop, self._patience)
        while True:
            try:
                names = self._ensure(prefix, code, version, stop)
                return self._also(image_name(prefix, code, version), run_as, names)
            except NotThere:
                raise AttemptProblem("image_unknown", self._unknown(code, version)) from None
            except Unstorable:
                raise AttemptProblem(
                    "image_unknown", f"{code}:{version} is not a name of an image"
                ) from None
            except (StoreAway, DockerAway) as error:
                what = "the group's store" if isinstance(error, StoreAway) else "Docker"
                log.warning("waiting for %s to bring an image: %s", what, error)
                if not backoff.pause():
                    raise AttemptProblem(
                        "node_trouble", f"image {code}:{version} could not be brought: {what} fails"
                    ) from None

    def _ensure(self, prefix: str, code: str, version: str, stop: Stop) -> frozenset[str]:
        """Make sure of the current image and return all its names."""
        name = image_name(prefix, code, version)
        etag = self._store.etag(self._bucket, _object(code, version))
        names = self._current(prefix, code, version, etag)
        if names:
            return names
        with self._one_at_a_time(name):
            # Somebody else may have brought it meanwhile.
            names = self._current(prefix, code, version, etag)
            if names:
                return names
            marker = etag_name(prefix, code, version, etag)
            if marker in self._broken:
                raise AttemptProblem("image_broken", self._broken[marker])
            if stop.is_set():
                raise Interrupted
            self._bring(prefix, code, version)
        return self._engine.names_of(name)

    def _also(self, name: str, run_as: str, names: frozenset[str]) -> None:
        if not run_as or run_as in names:
            return
        image = self._engine.image_id(name)
        if image is None:
            raise DockerAway("the image is gone again")
        repository, tag = run_as.rsplit(":", 1)
        try:
            self._engine.tag(image, repository, tag)
        except DockerRefused as error:
            raise DockerAway(str(error)) from None

    def _current(self, prefix: str, code: str, version: str, etag: str) -> frozenset[str]:
        """The names of the image of this ETag where it is the published one; else none."""
        names = self._engine.names_of(etag_name(prefix, code, version, etag))
        return names if image_name(prefix, code, version) in names else frozenset()

    def _bring(self, prefix: str, code: str, version: str) -> None:
        log.info("fetching an image", extra={"image": f"{code}:{version}"})
        with self._store.read(self._bucket, _object(code, version)) as stream:
            marker = etag_name(prefix, code, version, stream.etag)
            with self._load_lock():
                before = self._engine.image_names()
                try:
                    loaded = self._engine.load(stream.chunks())
                except DockerRefused as error:
                    text = " ".join(str(error).split())[:200]
                    if os.strerror(errno.ENOSPC).lower() in text.lower():
                        raise AttemptProblem(
                            "node_trouble", "the node has no space left for the image"
                        ) from None
                    raise self._break(marker, f"{code}:{version} is not an image: {text}") from None
                try:
                    image = self._choose(marker, code, version, loaded)
                    self._check(marker, code, version, image)
                    self._name(prefix, code, version, image, marker)
                finally:
                    self._restore_names(before, loaded, f"{prefix}/", f"{prefix}-etag/")
        log.info(
            "loaded an image", extra={"image": f"{code}:{version}", "megabytes": stream.size >> 20}
        )

    def _choose(self, marker: str, code: str, version: str, loaded: list[str]) -> str:
        ids = {name: self._engine.image_id(name) for name in loaded}
        found = {image for image in ids.values() if image is not None}
        own = ids.get(f"{code}:{version}")
        if own is not None:
            return own
        if len(found) == 1:
            return found.pop()
        what = "no image" if not found else f"{len(found)} images, none named {code}:{version}"
        raise self._break(marker, f"the archive of {code}:{version} holds {what}")

    def _check(self, marker: str, code: str, version: str, image: str) -> None:
        # A job's first process is a shell script; Nomad's error would only say "no such file".
        try:
            if self._engine.has_file(image, "/bin/sh"):
                return
        except DockerRefused as error:
            log.warning("cannot look into an image: %s", error)
            return
        raise self._break(marker, f"image {code}:{version} has no /bin/sh, which jobs need")

    def _name(self, prefix: str, code: str, version: str, image: str, marker: str) -> None:
        repository, tag = marker.rsplit(":", 1)
        try:
            self._engine.tag(image, f"{prefix}/{code}", version)
            self._engine.tag(image, repository, tag)
        except DockerRefused as error:
            raise DockerAway(str(error)) from None
        # The markers of objects that were published before, so that Docker can drop their images.
        for name in self._engine.image_names(f"{repository}:{_short(version)}-"):
            if name != marker:
                self._engine.untag(name)

    def _restore_names(self, before: dict[str, str], loaded: list[str], *ours: str) -> None:
        """Give names that the archive brought back to what they stood for before."""
        for name in loaded:
            if name.startswith("sha256:") or name.startswith(ours):
                continue
            former = before.get(name)
            if former is None:
                self._engine.untag(name)
            elif former != self._engine.image_id(name):
                repository, tag = name.rsplit(":", 1)
                self._engine.tag(former, repository, tag)

    def _break(self, marker: str, message: str) -> AttemptProblem:
        self._broken[marker] = message
        return AttemptProblem("image_broken", message)

    def _unknown(self, code: str, version: str) -> str:
        sentence = f"image {code}:{version} is not published"
        try:
            names = self._store.names(self._bucket, f"{code}-")
        except NotThere:
            names = []
        except StoreAway as error:
            log.warning("cannot list images: %s", describe(error))
            return sentence
        versions = published_versions(names, code)
        if not versions:
            return f"{sentence}; no version of {code} is"
        return f"{sentence}; {code} has {', '.join(versions[:20])}"

    @contextmanager
    def _one_at_a_time(self, name: str) -> Iterator[None]:
        with self._guard:
            lock = self._waiting.setdefault(name, threading.Lock())
        with lock:
            yield

    @contextmanager
    def _load_lock(self) -> Iterator[None]:
        descriptor = os.open(self._load_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def published_versions(names: list[str], code: str) -> list[str]:
    """The versions of a code among the objects of the image bucket, sorted."""
    found = set()
    for name in names:
        base, dot, suffix = name.rpartition(".")
        # As the client reads the names: the version is what follows the last dash.
        this, dash, version = base.rpartition("-")
        if dot and suffix == "tgz" and dash and this == code:
            found.add(version)
    return sorted(found, key=_natural)


def _natural(version: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", version) if p]


def _object(code: str, version: str) -> str:
    return f"{code}-{version}.tgz"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def load_lock_folder(runtime: Path, docker_socket: Path) -> Path:
    """The folder of the lock that all agents of this user on one Docker share."""
    folder = runtime / f"docker-{_short(str(docker_socket))[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
