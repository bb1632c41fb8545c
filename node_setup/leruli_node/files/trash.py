"""Removes finished job folders: moves them aside at once, deletes them in the background.

A job's folder may take minutes to delete, or resist. Nothing waits for it: neither the receipt, nor
the answer to the task driver, nor the start of the agent, nor the sweep.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from leruli_node.files.remove_tree import remove_tree

log = logging.getLogger(__name__)


class Trash:
    """A folder whose content a thread removes. Safe for several threads."""

    def __init__(self, folder: Path, take: Callable[[Path], bool]) -> None:
        """Build the trash.

        `take` makes a folder readable for the agent and returns whether it could.
        """
        self._folder = folder
        self._take = take
        self._wake = threading.Condition()
        self._pending = True
        self._stopped = False
        # Names of folders that could not be removed. `retry` clears them.
        self._stuck: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="trash", daemon=True)

    def start(self) -> None:
        """Start removing, beginning with folders of an earlier agent."""
        self._thread.start()

    def put(self, folder: Path) -> bool:
        """Have a folder removed. Return whether its path is free now. Raises nothing."""
        try:
            folder.rename(self._folder / f"{folder.name}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("%s cannot be moved aside: %s", folder, error.strerror)
            return False
        with self._wake:
            self._pending = True
            self._wake.notify_all()
        return True

    def retry(self) -> None:
        """Try again to remove folders that could not be removed so far."""
        with self._wake:
            self._stuck.clear()
            self._pending = True
            self._wake.notify_all()

    def stop(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until all is removed. The next agent removes the rest."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._pending or self._stopped)
                if not self._pending:
                    return
                self._pending = False
            try:
                self._empty()
            except Exception:
                log.exception("removing job folders failed unexpectedly")
                time.sleep(1.0)

    def _empty(self) -> None:
        for path in list(self._folder.iterdir()):
            if path.name in self._stuck:
                continue
            error = remove_tree(path)
            if error is not None and self._take(path):
                error = remove_tree(path)
            if error is None:
                continue
            with self._wake:
                self._stuck.add(path.name)
            why = error.strerror
            log.warning("%s cannot be removed: %s. The agent tries again in 5 minutes", path, why)
