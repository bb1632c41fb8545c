"""What is left of an attempt that is over: removed, and its state file last."""

from __future__ import annotations

import logging

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
        self, folders: Folders, store: AttemptStore, containers: OwnContainers, trash: Trash
    ) -> None:
        self._folders = folders
        self._store = store
        self._containers = containers
        self._trash = trash

    def clean_up(self, attempt: AttemptId) -> None:
        """Remove container, folder and, last, the state. What cannot go now is swept later.

        Raises nothing, and waits for no folder: the attempt is over, whatever it left.
        """
        try:
            self._containers.remove(attempt)
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("a container stays for now: %s", error, extra=attempt.log_fields)
        except Exception:
            log.exception("a container stays for now", extra=attempt.log_fields)
        self._trash.put(self._folders.job(attempt.key))
        try:
            if self._store.get(attempt) is not None:
                self._store.remove(attempt)
        except OSError as error:
            # The next stage-out finds its receipt, or is refused the upload lease.
            why = error.strerror
            log.warning("an attempt's state stays for now: %s", why, extra=attempt.log_fields)

    def clean_up_again(self, attempt: AttemptId) -> None:
        """Clean up after an agent that ended between an attempt's receipt and its clean-up.

        Without a state it was cleaned up, but for what the sweep takes. A Docker that hangs would
        hold up the start for a minute a receipt.
        """
        if self._store.get(attempt) is not None:
            self.clean_up(attempt)
