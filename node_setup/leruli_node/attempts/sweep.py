"""Removing what nobody knows any more: job folders and containers left by a crash."""

from __future__ import annotations

import logging
import threading

from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.files.trash import Trash
from leruli_node.folders import Folders, make_ballast
from leruli_node.images.cache import ImageCache

log = logging.getLogger(__name__)

# Seconds between two sweeps.
_PERIOD = 300.0


def sweep(
    nodeid: str,
    folders: Folders,
    store: AttemptStore,
    engine: DockerEngine,
    trash: Trash,
) -> int:
    """Remove left-overs of this node and return how many there were.

    Safe at any time: a state file is written before folder and container are made and removed
    after they are. A left-over that cannot be removed does not keep others; the next sweep tries
    again.
    """
    trash.retry()
    count = 0
    for folder in list(folders.jobs.iterdir()):
        if folder != folders.trash and not store.has(folder.name):
            log.warning("removing a left-over job folder", extra={"attempt": folder.name})
            trash.put(folder)
            count += 1
    return count + _sweep_containers(nodeid, store, engine)


def _sweep_containers(nodeid: str, store: AttemptStore, engine: DockerEngine) -> int:
    count = 0
    try:
        for container in engine.list_own(nodeid):
            if store.has(container.attempt_key):
                continue
            log.warning("removing a left-over container", extra={"attempt": container.attempt_key})
            count += 1
            try:
                engine.remove(container.id)
            except DockerRefusedError as error:
                log.warning("a left-over container stays for now: %s", error)
    except (DockerUnavailableError, DockerRefusedError) as error:
        log.warning("left-over containers stay for now: %s", error)
    return count


class Sweeper:
    """Removes left-overs from time to time, and images where the disk gets full."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        engine: DockerEngine,
        trash: Trash,
        image_cache: ImageCache,
    ) -> None:
        self._folders = folders
        self._store = store
        self._engine = engine
        self._trash = trash
        self._image_cache = image_cache

    def run(self, nodeid: str, stop: threading.Event) -> None:
        """Sweep every few minutes until `stop` is set."""
        while True:
            self.sweep(nodeid)
            if stop.wait(_PERIOD):
                return

    def sweep(self, nodeid: str) -> None:
        """Sweep once. Raises nothing: what cannot go now goes with a later sweep."""
        try:
            make_ballast(self._folders.root)
            sweep(nodeid, self._folders, self._store, self._engine, self._trash)
            self._image_cache.sweep()
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("left-overs stay for now: %s", type(error).__name__)
        except Exception:
            # Nothing that a job leaves may end the thread that removes left-overs.
            log.exception("left-overs stay for now")
