"""Which attempts an agent makes of the answer to a question that it sent before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from leruli_node.attempts.store import AttemptStore
from leruli_node.model import AttemptId, StartGrant
from leruli_node.objects.upload_lease import HeldLeases
from leruli_node.slots.asking import Granted, NextAttempts
from leruli_node.slots.granting import Granting
from leruli_node.slots.record import SlotRecord, SlotRecords

FIRST = AttemptId("00000000-0000-7000-8000-000000000000", 1)


def attempt(number: int) -> AttemptId:
    return AttemptId(f"00000000-0000-7000-8000-{number:012x}", 1)


class Asking:
    """A FAKE of the service, which answers a key the same."""

    def __init__(self, count: int) -> None:
        grant = StartGrant("bucket", "plain", "1", 1, 256, 60.0)
        self.granted = [Granted(attempt(n), grant, "1", True, 80.0) for n in range(1, count + 1)]
        self.keys: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

    def ask(self, first: AttemptId, key: str, ahead: int) -> list[Granted]:
        self.keys.append(key)
        self.before_answer()
        return self.granted if key == self.keys[0] else []


@pytest.fixture
def records(tmp_path: Path) -> SlotRecords:
    (tmp_path / "slots").mkdir()
    (tmp_path / "attempts").mkdir()
    made = SlotRecords(tmp_path / "slots")
    made.save(SlotRecord(FIRST.job, FIRST.attempt, "alloc"))
    return made


def granting(records: SlotRecords, store: AttemptStore, asking: Asking) -> Granting:
    leases, stop = HeldLeases(), threading.Event()
    return Granting(records, store, list, cast(NextAttempts, asking), stop, leases)


def test_attempts_that_the_disk_had_no_place_for_are_asked_for_again(
    records: SlotRecords, tmp_path: Path
) -> None:
    """None that was stored is forgotten."""
    store, asking = AttemptStore(tmp_path / "attempts"), Asking(3)
    made = granting(records, store, asking)
    in_the_way = tmp_path / "attempts" / f"{attempt(2).id}.json"
    in_the_way.mkdir()
    assert made.next(FIRST, ahead=3) == [attempt(1)]
    in_the_way.rmdir()
    assert made.has_open_question(FIRST)
    assert made.next(FIRST) == [attempt(2), attempt(3)]
    assert len({*asking.keys}) == 1


def test_an_attempt_that_ends_before_the_answer_is_read_is_not_made_again(
    records: SlotRecords, tmp_path: Path
) -> None:
    """The next agent sends the question again while an attempt of its answer still runs."""
    store, asking = AttemptStore(tmp_path / "attempts"), Asking(2)
    assert len(granting(records, store, asking).next(FIRST, ahead=1)) == 2
    asking.before_answer = lambda: store.remove(attempt(1))
    assert granting(records, store, asking).next(FIRST) == []
    assert [state.id for state in store.all()] == [attempt(2)]
