"""Loads an image: first into a file, then into Docker, one image at a time.

With the file a slow store delays only its own image, and a broken download can be told from a
broken archive.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.errors import AttemptError, StoppedError
from leruli_node.images.cache import ImageCache
from leruli_node.images.names import etag_name, etag_names, image_name, object_name, short
from leruli_node.images.store import ImageStore
from leruli_node.objects.object_store import CHUNK
from leruli_node.objects.store_errors import StoreUnavailableError
from leruli_node.outcomes import Outcome
from leruli_node.retry import Stop

log = logging.getLogger(__name__)

_STEP = 0.2
_NO_ROOM = "the node has no space left for the image"
# Docker says this of an archive that is no image, on every node and at any time.
_IS_BROKEN = (
    "archive/tar:",
    "corrupt",
    "does not match",
    "flate:",
    "gzip:",
    "invalid character",
    "invalid checksum",
    "invalid diffid",
    "invalid header",
    "invalid manifest",
    "invalid tar header",
    "unexpected end of json",
    "unexpected eof",
    "unrecognized image format",
    "unsupported media type",
)
# The archive names a file that it does not contain. Docker unpacks into such a folder.
_IS_LACKING = re.compile(r"docker-import-\d+/.*: no such file")
# Docker says this when it or the machine has trouble; one of the words above may stand beside it.
_IS_TROUBLE = (
    "cannot allocate memory",
    "connection",
    "context canceled",
    "deadline exceeded",
    "input/output error",
    "no space left",
    "permission denied",
    "quota exceeded",
    "read-only file system",
    "signal:",
    "temporarily unavailable",
    "too many",
)


class BrokenImageError(Exception):
    """The object is no image that can run jobs.

    `marker` identifies it; the text is for a person.
    """

    def __init__(self, marker: str, sentence: str) -> None:
        super().__init__(sentence)
        self.marker = marker


class ImageLoader:
    """Fetches and loads images for one Docker."""

    def __init__(
        self,
        engine: DockerEngine,
        store: ImageStore,
        cache: ImageCache,
        downloads: Path,
        locks: Path,
    ) -> None:
        self._engine = engine
        self._store = store
        self._cache = cache
        self._downloads = downloads
        # One load at a time on one Docker, also among several agents: the names before and after a
        # load tell what it loaded.
        self._load_file = locks / "docker-load.lock"

    def fetch(self, bucket: str, prefix: str, code: str, version: str, stop: Stop) -> None:
        """Fetch and load the image that is published now.

        Raises
        ------
        BrokenImageError
            The object is no image.
        AttemptError
            With outcome node_trouble.
        DockerUnavailableError, StoppedError
            Docker does not answer, or `stop` is set.
        Exception
            Errors of the store.
        """
        with tempfile.TemporaryFile(dir=self._downloads) as archive:
            etag = self._download(archive, bucket, code, version, stop)
            marker = etag_name(prefix, code, version, etag)
            with self._load_lock(stop):
                if image_name(prefix, code, version) in self._engine.names_of(marker):
                    return
                self._load(archive, prefix, code, version, marker, stop)
            size = archive.tell()
        log.info("loaded an image", extra={"image": f"{code}:{version}", "megabytes": size >> 20})

    def name(self, name: str, further: str) -> None:
        """Give an image a further name. If another image had that name, remove that image."""
        former = self._engine.image_id(further)
        image = self._engine.image_id(name)
        if image is None:
            raise DockerUnavailableError("the image is gone again")
        self._tag(image, further)
        if former is not None and former != image:
            self._cache.remove_former(former)

    def _download(self, archive: BinaryIO, bucket: str, code: str, version: str, stop: Stop) -> str:
        """Download the archive. Return its ETag."""
        with self._store.read(bucket, object_name(code, version)) as stream:
            if not self._cache.evict_for(self._downloads, stream.size):
                raise _trouble(_NO_ROOM)
            try:
                for chunk in stream.chunks():
                    if stop.is_set():
                        raise StoppedError
                    archive.write(chunk)
                archive.flush()
            except OSError as error:
                raise _trouble(f"the node could not store the image: {error.strerror}") from None
            if archive.tell() != stream.size:
                raise StoreUnavailableError("the download ended early")
            return stream.etag

    def _load(
        self, archive: BinaryIO, prefix: str, code: str, version: str, marker: str, stop: Stop
    ) -> None:
        before = self._engine.image_names()
        loaded = self._load_archive(archive, code, version, marker, stop)
        try:
            image = self._choose(marker, code, version, loaded)
            self._check(marker, code, version, image)
            self._tag(image, image_name(prefix, code, version))
            self._tag(image, marker)
            # Remove the markers of earlier objects, so that Docker can remove their images.
            for name in self._engine.image_names(etag_names(prefix, code, version)):
                if name != marker:
                    self._engine.untag(name)
        finally:
            self._restore_names(before, loaded, f"{prefix}/", f"{prefix}-etag/")

    def _load_archive(
        self, archive: BinaryIO, code: str, version: str, marker: str, stop: Stop
    ) -> list[str]:
        while True:
            try:
                archive.seek(0)
                return self._engine.load(_chunks(archive, stop))
            except DockerRefusedError as error:
                text = " ".join(str(error).split())[:200]
            if says_broken(text):
                raise BrokenImageError(marker, f"{code}:{version} is not an image: {text}")
            if "no space left" not in text.lower():
                raise _trouble(f"the node's Docker could not load {code}:{version}: {text}")
            if not self._cache.evict_one():
                raise _trouble(_NO_ROOM)

    def _choose(self, marker: str, code: str, version: str, loaded: list[str]) -> str:
        ids = {name: self._engine.image_id(name) for name in loaded}
        found = {image for image in ids.values() if image is not None}
        own = ids.get(f"{code}:{version}")
        if own is not None:
            return own
        if len(found) == 1:
            return found.pop()
        what = "no image" if not found else f"{len(found)} images, none named {code}:{version}"
        raise BrokenImageError(marker, f"the archive of {code}:{version} holds {what}")

    def _check(self, marker: str, code: str, version: str, image: str) -> None:
        # A job's first process is a shell script. Without a shell Nomad's error would only say "no
        # such file".
        try:
            if self._engine.has_file(image, "/bin/sh"):
                return
        except DockerRefusedError as error:
            log.warning("an image cannot be inspected: %s", error)
            return
        raise BrokenImageError(marker, f"image {code}:{version} has no /bin/sh, which jobs need")

    def _tag(self, image: str, name: str) -> None:
        repository, tag = name.rsplit(":", 1)
        try:
            self._engine.tag(image, repository, tag)
        except DockerRefusedError as error:
            raise DockerUnavailableError(str(error)) from None

    def _restore_names(self, before: dict[str, str], loaded: list[str], *ours: str) -> None:
        """Give the names that the load took over back to their former images."""
        for name in loaded:
            if name.startswith("sha256:") or name.startswith(ours):
                continue
            former = before.get(name)
            if former is None:
                self._engine.untag(name)
            elif former != self._engine.image_id(name):
                repository, tag = name.rsplit(":", 1)
                self._engine.tag(former, repository, tag)

    @contextmanager
    def _load_lock(self, stop: Stop) -> Iterator[None]:
        descriptor = os.open(self._load_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if stop.wait(_STEP):
                        raise StoppedError from None
            yield
        finally:
            os.close(descriptor)


def _trouble(sentence: str) -> AttemptError:
    return AttemptError(Outcome.NODE_TROUBLE, sentence)


def says_broken(text: str) -> bool:
    """Return whether Docker refuses the archive itself, on whichever node it is loaded."""
    lower = text.lower()
    if any(word in lower for word in _IS_TROUBLE):
        return False
    return any(word in lower for word in _IS_BROKEN) or bool(_IS_LACKING.search(lower))


def _chunks(archive: BinaryIO, stop: Stop) -> Iterator[bytes]:
    while True:
        if stop.is_set():
            raise StoppedError
        chunk = archive.read(CHUNK)
        if not chunk:
            return
        yield chunk


def load_lock_folder(runtime: Path, docker_socket: Path) -> Path:
    """Return the folder of the lock that all agents of this user on one Docker share."""
    folder = runtime / f"docker-{short(str(docker_socket))[:12]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
