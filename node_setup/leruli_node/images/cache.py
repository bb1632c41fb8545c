"""Makes space for images: removes the least recently used ones when the disk gets full.

Only images of this node's group are removed, and none that an attempt here uses or that is being
loaded.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from leruli_node.clock import boottime
from leruli_node.container.docker_engine import DockerEngine
from leruli_node.folders import write_file
from leruli_node.identity import NodeIdentity

log = logging.getLogger(__name__)

# Seconds between two writes of an image's use: not every job should cost a write.
_NOTED_FOR = 60.0
MOST_FREE_MB = 20_480
_PART_FREE = 10


class ImageCache:
    """The group's images on this node, and when each was used last.

    Parameters
    ----------
    in_use
        Returns the images of the attempts here, each as `code:version`.
    least_free_mb
        Images are removed while less is free. Default: a tenth of the disk, at most MOST_FREE_MB.
    """

    def __init__(
        self,
        engine: DockerEngine,
        identity: NodeIdentity,
        file: Path,
        in_use: Callable[[], set[str]],
        least_free_mb: int | None = None,
    ) -> None:
        self._engine = engine
        self._identity = identity
        self._file = file
        self._in_use = in_use
        self._least_free_mb = least_free_mb
        self._lock = threading.RLock()
        self._loading: list[str] = []
        self._uses, self._former = _read(file)
        self._noted: dict[str, float] = {}
        self._docker_root: Path | None = None

    @contextmanager
    def nothing_removed(self) -> Iterator[None]:
        """Remove no image within the block: a found image stays until it counts as used."""
        with self._lock:
            yield

    @contextmanager
    def being_loaded(self, code: str, version: str) -> Iterator[None]:
        """Do not remove this image within the block: Docker may hold a part of it."""
        name = f"{code}:{version}"
        with self._lock:
            self._loading.append(name)
        try:
            yield
        finally:
            with self._lock:
                self._loading.remove(name)

    def used(self, code: str, version: str) -> None:
        """Note that an attempt will run in this image."""
        name = f"{code}:{version}"
        with self._lock:
            newest = max(self._uses.values(), default=0.0)
            # If the wall clock was set back, the latest use must not become the oldest.
            self._uses[name] = max(time.time(), newest + 0.001)
            now = boottime()
            if now - self._noted.get(name, -_NOTED_FOR) >= _NOTED_FOR:
                self._noted[name] = now
                self._note()

    def remove_former(self, image: str) -> None:
        """Remove an image whose last name a newer image took. Retry later if it is in use."""
        with self._lock:
            if not self._remove_nameless(image):
                self._former.append(image)
                self._note()

    def evict_for(self, path: Path, size: int) -> bool:
        """Remove images until `size` bytes are free at `path`. Return whether they are."""
        while shutil.disk_usage(path).free < size:
            if not self._is_where_images_are(path) or not self.evict_one():
                return False
        return True

    def sweep(self) -> None:
        """Remove replaced images, then others until `least_free` bytes are free.

        Raises
        ------
        DockerUnavailableError, DockerRefusedError
            Docker does not answer, or refuses.
        OSError
            The disk failed.
        """
        with self._lock:
            left = [image for image in self._former if not self._remove_nameless(image)]
            if left != self._former:
                self._former = left
                self._note()
        root = self.images_folder()
        while shutil.disk_usage(root).free < self.least_free(root):
            if not self.evict_one():
                return

    def least_free(self, root: Path) -> int:
        """Return the bytes that must be free where `root` is."""
        if self._least_free_mb is not None:
            return self._least_free_mb * 2**20
        return min(MOST_FREE_MB * 2**20, shutil.disk_usage(root).total // _PART_FREE)

    def evict_one(self) -> bool:
        """Remove one unused image: unpublished ones first, then the least recently used."""
        with self._lock:
            return any(self._remove(names) for names in self._removable())

    def images_folder(self) -> Path:
        """Return Docker's folder, or the agent's if Docker's is not visible here."""
        if self._docker_root is None:
            root = self._engine.root_folder()
            # Docker's folder may not be visible to this process.
            self._docker_root = root if root is not None and root.is_dir() else self._file.parent
        return self._docker_root

    def _is_where_images_are(self, path: Path) -> bool:
        return os.stat(path).st_dev == os.stat(self.images_folder()).st_dev

    def _removable(self) -> list[list[str]]:
        """Return the names of each image that may be removed, in the order of removal."""
        prefix = self._identity.image_prefix
        if prefix is None:
            return []
        used = self._in_use() | set(self._loading)
        ours = tuple(f"{prefix}{part}/" for part in ("", "-etag", "-run"))
        names_of: dict[str, list[str]] = {}
        for name, image in self._engine.image_names(prefix).items():
            if name.startswith(ours):
                names_of.setdefault(image, []).append(name)
        found = []
        for names in names_of.values():
            published = [name[len(ours[0]) :] for name in names if name.startswith(ours[0])]
            # The name that Nomad runs may be moving from the former image to the present one.
            passing = not published and any(name.startswith(ours[2]) for name in names)
            if used.isdisjoint(published) and not (passing and used):
                last = max((self._uses.get(name, 0.0) for name in published), default=0.0)
                found.append((bool(published), last, names))
        return [names for _, _, names in sorted(found)]

    def _remove(self, names: list[str]) -> bool:
        for name in names:
            self._engine.untag(name)
        if any(self._engine.image_id(name) is not None for name in names):
            # A container still uses it.
            return False
        log.info("removed an image to free disk space", extra={"image": min(names)})
        prefix = self._identity.image_prefix
        for name in [name for name in self._uses if f"{prefix}/{name}" in names]:
            del self._uses[name]
            self._noted.pop(name, None)
        self._note()
        return True

    def _remove_nameless(self, image: str) -> bool:
        """Remove an image without a name. Return whether it is gone or has a name again."""
        if self._engine.names_of(image) or self._engine.image_id(image) is None:
            return True
        self._engine.untag(image)
        return self._engine.image_id(image) is None

    def _note(self) -> None:
        try:
            written = json.dumps({"uses": self._uses, "former": self._former}).encode()
            write_file(self._file, written)
        except OSError as error:
            log.warning("the use of images cannot be noted: %s", error.strerror)


def _read(file: Path) -> tuple[dict[str, float], list[str]]:
    try:
        stored = json.loads(file.read_bytes())
        uses = {str(name): float(when) for name, when in stored["uses"].items()}
        return uses, [str(image) for image in stored["former"]]
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        log.error("%s cannot be read; images go in any order", file.name)
        return {}, []
