"""The attempt after the running one: granted, staged in and its container made meanwhile."""

from __future__ import annotations

import logging
import threading

from leruli_node.container.docker_engine import DockerRefusedError, DockerUnavailableError
from leruli_node.errors import StoppedError
from leruli_node.model import AttemptId
from leruli_node.slots.container import GoneError
from leruli_node.slots.parts import SlotParts
from leruli_node.slots.workers import Workers

log = logging.getLogger(__name__)


class Ahead:
    """Prepares attempts of one slot in a thread, one after the other.

    Nothing here holds up the command that runs. An image that is missing on the node may take
    minutes to load.
    """

    def __init__(self, parts: SlotParts, first: AttemptId) -> None:
        self._parts = parts
        self._first = first
        self._workers = Workers(f"ahead-{first.id}", 1, parts.stop)
        self._lock = threading.Lock()
        self._is_wanted = True
        self._staging: AttemptId | None = None
        self._prepared: list[AttemptId] = []

    def begin(self) -> None:
        """Ask for the next attempt and prepare it, in the background."""
        with self._lock:
            self._is_wanted = True
        self._workers.do(self._prepare)

    def give_up(self) -> None:
        """Give back what is being prepared, or is prepared. Can be repeated; waits for nothing."""
        with self._lock:
            was_wanted, self._is_wanted = self._is_wanted, False
            staging = self._staging
        if staging is not None:
            self._parts.stage_in.abort(staging)
        if was_wanted:
            self._workers.do(self._return)

    def take(self) -> list[AttemptId]:
        """Return what is prepared, once; waits until it is. Raises StoppedError."""
        self._workers.wait()
        taken, self._prepared = self._prepared, []
        return taken

    def close(self) -> None:
        """End the thread."""
        self._workers.close()

    def _prepare(self) -> None:
        for attempt in self._parts.granting.next(self._first):
            self._prepared.append(attempt)
            with self._lock:
                if not self._is_wanted:
                    return
                self._staging = attempt
            try:
                self._parts.prepare(self._first, attempt)
            except StoppedError:
                raise
            except (DockerUnavailableError, DockerRefusedError, GoneError) as error:
                # Starting it finds out whether that lasts.
                log.warning("not prepared ahead: %s", error, extra=attempt.log_fields)
            finally:
                with self._lock:
                    self._staging = None

    def _return(self) -> None:
        kept = [one for one in self._prepared if not self._parts.give_back(one)]
        self._prepared = kept
