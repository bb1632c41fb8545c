"""Removing what nobody knows any more: job folders and containers left by a crash."""

from __future__ import annotations

import logging

from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.files.trash import Trash
from leruli_node.folders import Folders

log = logging.getLogger(__name__)


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
