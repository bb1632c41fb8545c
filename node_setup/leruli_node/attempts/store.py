"""What the agent knows about its attempts: one file each, the only source of truth here.

A file is written before anything else exists of an attempt and removed after all of it is gone,
so a job folder or container without such a file is a left-over.
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
    """All attempts of this node, in memory and on disk; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._states: dict[str, AttemptState] = {}
        self._work: dict[str, threading.Lock] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                state = AttemptState.from_bytes(path.read_bytes())
            except ValueError:
                # Written in one step, so this is a disk's fault: kept aside for a person.
                log.error("an attempt's state cannot be read", extra={"file": path.name})
                path.rename(path.with_suffix(".broken"))
                continue
            self._states[state.id.key] = state

    def get(self, attempt: AttemptId) -> AttemptState | None:
        """The state of an attempt, or None when this node knows nothing about it."""
        with self._lock:
            return self._states.get(attempt.key)

    def all(self) -> list[AttemptState]:
        """The states of all attempts that are not over here."""
        with self._lock:
            return list(self._states.values())

    def images(self) -> set[str]:
        """The images of all attempts, `code:version` each."""
        grants = [state.grant for state in self.all()]
        return {f"{grant.code}:{grant.version}" for grant in grants if grant is not None}

    def has(self, attempt_key: str) -> bool:
        """Whether `<job with dashes>x<attempt>` is known, if only by a file kept for a person."""
        with self._lock:
            broken = self._folder / f"{attempt_key.replace('-', '')}.broken"
            return attempt_key in self._states or broken.exists()

    def create(self, state: AttemptState) -> None:
        """Keep a new attempt; durable when this returns."""
        with self._lock:
            write_file(self._path(state.id), state.to_bytes())
            self._states[state.id.key] = state

    def update(
        self, attempt: AttemptId, durable: bool = True, sync: bool = True, **changes: Any
    ) -> AttemptState | None:
        """Change fields of a known attempt and return its new state; None if it is not known.

        With `durable` false the change is kept in memory until the next durable one; with `sync`
        false it outlives the agent, but not always the machine.
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
        """Forget an attempt; after a power cut it may be known again, and ends as a stale one."""
        with self._lock:
            self._path(attempt).unlink(missing_ok=True)
            self._states.pop(attempt.key, None)

    def work_lock(self, attempt: AttemptId) -> threading.Lock:
        """The lock of those who stage this attempt in or out: one at a time."""
        with self._lock:
            if len(self._work) > 10_000:
                for key in [k for k in self._work if k not in self._states]:
                    if not self._work[key].locked():
                        del self._work[key]
            return self._work.setdefault(attempt.key, threading.Lock())

    def _path(self, attempt: AttemptId) -> Path:
        return self._folder / f"{attempt.id}.json"
