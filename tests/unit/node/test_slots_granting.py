"""Which attempts an agent makes of the answer to a question that it sent before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from leruli_node.attempts.store import AttemptStore
from leruli_node.model import AttemptId, StartGrant
from leruli_node.objects.upload_lease import HeldLeases
from leruli_node.slots.asking import Granted, NextAttempts
from leruli_node.slots.granting import Granting
from leruli_node.slots.record import SlotRecord, SlotRecords

FIRST = AttemptId("00000000-0000-7000-8000-000000000000", 1)
NEXT = AttemptId("00000000-0000-7000-8000-000000000001", 1)


class Asking:
    """A FAKE of the service, which gives one answer to one key."""

    def __init__(self) -> None:
        grant = StartGrant("bucket", "plain", "1", 1, 256, 60.0)
        self.granted = [Granted(NEXT, grant, "1", True, 80.0)]
        self.keys: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

    def ask(self, first: AttemptId, key: str) -> list[Granted]:
        self.keys.append(key)
        self.before_answer()
        return self.granted if key == self.keys[0] else []


def test_an_attempt_that_ends_before_the_answer_is_read_is_not_made_again(tmp_path: Path) -> None:
    """The agent sends a question again after its restart, while the granted attempt still runs."""
    for name in ("slots", "attempts"):
        (tmp_path / name).mkdir()
    records, store = SlotRecords(tmp_path / "slots"), AttemptStore(tmp_path / "attempts")
    records.save(SlotRecord(FIRST.job, FIRST.attempt, "alloc"))
    asking = Asking()

    def granting() -> Granting:
        stop, leases = threading.Event(), HeldLeases()
        return Granting(records, store, list, cast(NextAttempts, asking), stop, leases)

    assert granting().next(FIRST) == [NEXT]
    # Its receipt is delivered, so neither a state nor a receipt is left.
    asking.before_answer = lambda: store.remove(NEXT)
    assert granting().next(FIRST) == []
    assert store.all() == []
    assert asking.keys[0] == asking.keys[1] != asking.keys[2]
