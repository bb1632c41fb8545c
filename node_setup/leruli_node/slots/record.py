"""The agent's notes of a slot: one file each, from which the next agent continues it.

A slot's file is written when its first attempt has ended, and removed before Nomad's task ends.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leruli_node.folders import write_file
from leruli_node.model import AttemptId, known_fields

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlotRecord:
    """One slot. It is named by its first attempt, which Nomad placed."""

    job: str
    attempt: int
    alloc: str
    # Docker's description of the first attempt's container: made.py.
    container: dict[str, Any] = field(default_factory=dict)
    # Of the question for further attempts whose answer is not known yet.
    key: str = ""
    # Nomad ends the allocation: no further attempt begins.
    stopped: bool = False
    # The command that runs is ended too: TERM, and KILL after the grace.
    ends_running: bool = False

    @property
    def first(self) -> AttemptId:
        """The attempt that Nomad placed."""
        return AttemptId(self.job, self.attempt)


class SlotRecords:
    """All slots of this node, in memory and on disk. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._records: dict[str, SlotRecord] = {}
        for path in sorted(folder.glob("*.json")):
            record = _read(path)
            if record is not None:
                self._records[record.first.key] = record

    def get(self, first: AttemptId) -> SlotRecord | None:
        """Return the slot of this first attempt, None when there is none."""
        with self._lock:
            return self._records.get(first.key)

    def firsts(self) -> list[AttemptId]:
        """Return the first attempts of all slots."""
        with self._lock:
            return [record.first for record in self._records.values()]

    def keys(self) -> set[str]:
        """Return the keys of the first attempts of all slots."""
        with self._lock:
            return set(self._records)

    def save(self, record: SlotRecord) -> None:
        """Store a slot. Raises OSError."""
        with self._lock:
            self._save(record)

    def update(self, record: SlotRecord, **changes: Any) -> SlotRecord:
        """Store a change of a slot, and return the slot with it. Raises OSError."""
        return self.change(record.first, **changes) or replace(record, **changes)

    def change(self, first: AttemptId, **changes: Any) -> SlotRecord | None:
        """Store a change of a slot; None when it is over. Raises OSError."""
        with self._lock:
            record = self._records.get(first.key)
            if record is None:
                return None
            changed = replace(record, **changes)
            self._save(changed)
            return changed

    def remove(self, first: AttemptId) -> None:
        """Forget a slot; one that is not known is no error."""
        with self._lock:
            self._records.pop(first.key, None)
            self._path(first).unlink(missing_ok=True)

    def _save(self, record: SlotRecord) -> None:
        # After a power cut all containers are gone, and so is the slot.
        write_file(self._path(record.first), json.dumps(vars(record)).encode(), sync=False)
        self._records[record.first.key] = record

    def _path(self, first: AttemptId) -> Path:
        return self._folder / f"{first.id}.json"


def _read(path: Path) -> SlotRecord | None:
    try:
        return SlotRecord(**known_fields(SlotRecord, json.loads(path.read_bytes())))
    except (OSError, ValueError, TypeError) as error:
        log.error("a slot's file cannot be read: %s", error, extra={"file": path.name})
        return None
