"""Removes left-overs of a crash: job folders and containers without a state file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

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
# Seconds until the sweep after a container that was not removed. Docker may have been restarting.
_SOON = 10.0


def sweep(
    nodeid: str,
    folders: Folders,
    store: AttemptStore,
    engine: DockerEngine,
    trash: Trash,
    tell_left: Callable[[], None] = lambda: None,
) -> int:
    """Remove left-overs of this node.

    Safe at any time: a state file is written before folder and container are made, and removed
    after they are removed. A left-over that cannot be removed does not stop the sweep; the next
    sweep tries again. `tell_left` is called when a container could not be removed.

    Returns
    -------
    How many left-overs there were.
    """
    trash.retry()
    count = 0
    for folder in list(folders.jobs.iterdir()):
        if folder in (folders.trash, folders.shared):
            continue
        if not store.has(folder.name):
            log.warning("removing a left-over job folder", extra={"attempt": folder.name})
            trash.put(folder)
            count += 1
    return count + _sweep_containers(nodeid, store, engine, tell_left)


def _sweep_containers(
    nodeid: str, store: AttemptStore, engine: DockerEngine, tell_left: Callable[[], None]
) -> int:
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
                log.warning("a left-over container is not removed yet: %s", error)
                tell_left()
    except (DockerUnavailableError, DockerRefusedError) as error:
        log.warning("left-over containers are not removed yet: %s", error)
        tell_left()
    return count


class Sweeper:
    """Removes left-overs every few minutes, and images when the disk gets full."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        engine: DockerEngine,
        trash: Trash,
        image_cache: ImageCache,
        sweep_shared: Callable[[str], None],
        sweep_soon: threading.Event,
    ) -> None:
        """Build the sweeper.

        `sweep_shared` removes left-over shared containers of a node id. `sweep_soon` is set when a
        container was not removed.
        """
        self._folders = folders
        self._store = store
        self._engine = engine
        self._trash = trash
        self._image_cache = image_cache
        self._sweep_shared = sweep_shared
        self._sweep_soon = sweep_soon

    def run(self, nodeid: str, stop: threading.Event) -> None:
        """Sweep every few minutes until `stop` is set, and soon after a failed removal.

        After sweeps in a row that failed the time to the next one doubles.
        """
        pause = _SOON
        while not stop.is_set():
            self._sweep_soon.clear()
            self.sweep(nodeid)
            pause = min(2 * pause, _PERIOD) if self._sweep_soon.is_set() else _SOON
            waited = 0.0
            while waited < _PERIOD and not stop.wait(pause):
                waited += pause
                if self._sweep_soon.is_set():
                    break

    def sweep(self, nodeid: str) -> None:
        """Sweep once. Raises nothing: a later sweep removes what fails now."""
        try:
            make_ballast(self._folders.root)
            left = self._sweep_soon.set
            sweep(nodeid, self._folders, self._store, self._engine, self._trash, left)
            self._sweep_shared(nodeid)
            self._image_cache.sweep()
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("left-overs are not removed yet: %s", type(error).__name__)
        except Exception:
            # No left-over of a job may end the thread that removes left-overs.
            log.exception("left-overs are not removed yet")
