"""Removing what nobody knows any more: job folders and containers left by a crash."""

from __future__ import annotations

import logging

from leruli_node.docker_engine import DockerEngine
from leruli_node.folders import Folders
from leruli_node.rundir_access import RundirAccess
from leruli_node.state import AttemptStore

log = logging.getLogger(__name__)


def sweep(
    nodeid: str,
    folders: Folders,
    store: AttemptStore,
    engine: DockerEngine,
    access: RundirAccess,
) -> int:
    """Remove left-overs of this node and return how many there were.

    Safe at any time: a state file is written before folder and container are made and removed
    after they are. Raises DockerAway, DockerRefused.
    """
    count = 0
    containers = engine.list_own(nodeid)
    for container in containers:
        if not store.has(container.attempt_key):
            log.warning("removing a left-over container", extra={"attempt": container.attempt_key})
            engine.remove(container.id)
            count += 1
    for folder in list(folders.jobs.iterdir()):
        if not store.has(folder.name):
            log.warning("removing a left-over job folder", extra={"attempt": folder.name})
            access.remove(folder)
            count += 1
    return count
