"""Removes the containers, the folder and, last, the state file of an attempt that is over."""

from __future__ import annotations

import logging
import threading

from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.container.own_containers import OwnContainers
from leruli_node.files.trash import Trash
from leruli_node.folders import Folders
from leruli_node.model import AttemptId

log = logging.getLogger(__name__)


class Cleanup:
    """Removes containers, folder and state of attempts."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        containers: OwnContainers,
        trash: Trash,
        sweep_soon: threading.Event,
    ) -> None:
        """Build it. It sets `sweep_soon` when a container is left over."""
        self._folders = folders
        self._store = store
        self._containers = containers
        self._trash = trash
        self._sweep_soon = sweep_soon

    def clean_up(self, attempt: AttemptId) -> None:
        """Remove containers, folder and, last, the state. The sweep removes later what fails now.

        Raises nothing and waits for no folder: the attempt is over, whatever it left.
        """
        state = self._store.get(attempt)
        try:
            if state is None or not state.in_shared:
                self._containers.remove(attempt, state is not None and state.slot is not None)
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("a container is not removed yet: %s", error, extra=attempt.log_fields)
            self._sweep_soon.set()
        except Exception:
            log.exception("a container is not removed yet", extra=attempt.log_fields)
            self._sweep_soon.set()
        self._trash.put(self._folders.job(attempt.key))
        try:
            if state is not None:
                self._store.remove(attempt)
        except OSError as error:
            # The next stage-out finds its receipt, or the service refuses it the upload lease.
            why = error.strerror
            log.warning("an attempt's state is not removed yet: %s", why, extra=attempt.log_fields)

    def clean_up_again(self, attempt: AttemptId) -> None:
        """Clean up after an agent that ended between an attempt's receipt and its clean-up.

        Skip an attempt without a state: it was cleaned up, and the sweep removes any rest.
        Otherwise a hanging Docker would delay the start by a minute for each receipt.
        """
        if self._store.get(attempt) is not None:
            self.clean_up(attempt)
