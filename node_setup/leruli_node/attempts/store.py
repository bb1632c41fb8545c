"""The state of the attempts on this node, one file each: the only source of truth here.

A state file is written before anything else of an attempt exists, and removed after everything
else. So a job folder or a container without a state file is a left-over.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from leruli_node.folders import write_file
from leruli_node.model import AttemptId, AttemptState

log = logging.getLogger(__name__)


class AttemptStore:
    """The states of all attempts on this node, in memory and on disk. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._states: dict[str, AttemptState] = {}
        self._work: dict[str, threading.Lock] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                state = AttemptState.from_bytes(path.read_bytes())
            except ValueError:
                # Files are written in one step, so the disk is the cause. Set aside for a person.
                log.error("an attempt's state cannot be read", extra={"file": path.name})
                path.rename(path.with_suffix(".broken"))
                continue
            self._states[state.id.key] = state

    def get(self, attempt: AttemptId) -> AttemptState | None:
        """Return the state of an attempt, None if this node does not know it."""
        with self._lock:
            return self._states.get(attempt.key)

    def all(self) -> list[AttemptState]:
        """Return the states of all attempts that are not over here."""
        with self._lock:
            return list(self._states.values())

    def images(self) -> set[str]:
        """Return the images of all attempts, each as `code:version`."""
        grants = [state.grant for state in self.all()]
        return {f"{grant.code}:{grant.version}" for grant in grants if grant is not None}

    def has(self, attempt_key: str) -> bool:
        """Return whether `<job with dashes>x<attempt>` is known. A state file set aside counts."""
        with self._lock:
            broken = self._folder / f"{attempt_key.replace('-', '')}.broken"
            return attempt_key in self._states or broken.exists()

    def create(self, state: AttemptState, sync: bool = True) -> None:
        """Store a new attempt; with `sync` so that it survives a crash of the machine."""
        with self._lock:
            write_file(self._path(state.id), state.to_bytes(), sync=sync)
            self._states[state.id.key] = state

    def update(
        self, attempt: AttemptId, durable: bool = True, sync: bool = True, **changes: Any
    ) -> AttemptState | None:
        """Change fields of a known attempt.

        Parameters
        ----------
        attempt
            The attempt.
        durable
            False: keep the change in memory until the next durable one.
        sync
            False: the change survives the end of the agent, but not always a crash of the machine.
        changes
            The new values.

        Returns
        -------
        The new state, None if the attempt is not known.
        """
        with self._lock:
            state = self._states.get(attempt.key)
            if state is None:
                return None
            state = replace(state, **changes)
            if durable:
                write_file(self._path(attempt), state.to_bytes(), sync=sync)
            self._states[attempt.key] = state
            return state

    def remove(self, attempt: AttemptId) -> None:
        """Delete the state file, without fsync.

        If a power cut brings it back, the service answers 409 and the attempt is dropped.
        """
        with self._lock:
            self._path(attempt).unlink(missing_ok=True)
            self._states.pop(attempt.key, None)

    def work_lock(self, attempt: AttemptId) -> threading.Lock:
        """Return the lock of this attempt. One thread at a time stages it in or out."""
        with self._lock:
            if len(self._work) > 10_000:
                for key in [k for k in self._work if k not in self._states]:
                    if not self._work[key].locked():
                        del self._work[key]
            return self._work.setdefault(attempt.key, threading.Lock())

    def _path(self, attempt: AttemptId) -> Path:
        return self._folder / f"{attempt.id}.json"
