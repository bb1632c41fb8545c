"""What a slot has granted and prepared ahead, where a stage-in takes as long as a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leruli_node.model import AttemptId
from leruli_node.slots.ahead import Ahead
from leruli_node.slots.parts import SlotParts

FIRST = AttemptId("00000000-0000-7000-8000-000000000000", 1)


def attempt(number: int) -> AttemptId:
    return AttemptId(f"00000000-0000-7000-8000-{number:012x}", 1)


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Parts:
    """A FAKE of the slot's parts: real stage-ins end when they like."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.asked: list[int] = []
        self.returned: list[AttemptId] = []
        self.prepared: list[AttemptId] = []
        self.aborted: list[AttemptId] = []
        # Attempts that are noted as being given back.
        self.noted: list[AttemptId] = []
        # Attempts for which the slot looked for a container that runs.
        self.looked_at: list[AttemptId] = []
        self.may_answer, self.may_prepare = threading.Event(), threading.Event()
        self.may_answer.set()
        self.may_prepare.set()
        self.has_container = True
        self.granting = self.stage_in = self.store = self.records = self
        self._count = 0

    def next(self, first: AttemptId, ahead: int) -> list[AttemptId]:
        assert first == FIRST
        self.asked.append(1 + ahead)
        self.may_answer.wait(20)
        self._count += 1 + ahead
        return [attempt(number) for number in range(self._count - ahead, self._count + 1)]

    def prepare(self, first: AttemptId, one: AttemptId) -> bool:
        self.may_prepare.wait(20)
        self.prepared.append(one)
        return True

    def abort(self, one: AttemptId) -> None:
        self.aborted.append(one)

    def update(self, one: AttemptId, sync: bool, is_returning: bool) -> None:
        assert is_returning
        assert one not in self.aborted
        self.noted.append(one)

    def give_back(self, one: AttemptId) -> bool:
        self.returned.append(one)
        return True

    def get(self, one: AttemptId) -> object:
        return one

    def container_of(self, state: object) -> object:
        def has_ready(_slot: object, one: AttemptId) -> bool:
            self.looked_at.append(one)
            return self.has_container

        return SimpleNamespace(has_ready=has_ready)


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def ahead(parts: Parts) -> Iterator[Ahead]:
    made = Ahead(cast(SlotParts, parts), FIRST)
    yield made
    parts.may_answer.set()
    parts.may_prepare.set()
    made.close()


def test_many_are_asked_for_when_few_are_left(ahead: Ahead, parts: Parts) -> None:
    ahead.want(many=False)
    assert ahead.take() == attempt(1)
    ahead.want(many=True)
    wait_for(lambda: len(parts.prepared) == 5)
    ahead.want(many=True)
    assert [ahead.take(), ahead.take()] == [attempt(2), attempt(3)]
    ahead.want(many=True)
    wait_for(lambda: len(parts.prepared) == 9)
    assert parts.asked == [1, 4, 4]
    ahead.want(many=False)
    assert [ahead.take() for _ in range(7)] == [*(attempt(n) for n in range(4, 10)), None]
    assert not parts.returned


def test_one_container_is_made_ahead(ahead: Ahead, parts: Parts) -> None:
    """Jobs of the answer may share no container, or be of other users."""
    parts.has_container = False
    ahead.want(many=True)
    wait_for(lambda: attempt(2) in parts.looked_at)
    assert parts.prepared == [attempt(1)]
    assert ahead.take() == attempt(1)
    wait_for(lambda: parts.prepared == [attempt(1), attempt(2)])


def test_the_last_ones_are_given_back(ahead: Ahead, parts: Parts) -> None:
    ahead.want(many=True)
    wait_for(lambda: len(parts.prepared) == 4)
    ahead.give_up(keep=1)
    wait_for(lambda: len(parts.returned) == 3)
    assert (ahead.take(), ahead.take()) == (attempt(1), None)
    assert parts.returned == [attempt(4), attempt(3), attempt(2)]


def test_what_is_granted_later_is_given_back_too(ahead: Ahead, parts: Parts) -> None:
    parts.may_answer.clear()
    ahead.want(many=True)
    wait_for(lambda: parts.asked)
    ahead.give_up(keep=1)
    parts.may_answer.set()
    wait_for(lambda: len(parts.returned) == 3)
    assert (ahead.take(), ahead.take()) == (attempt(1), None)


def test_an_aborted_stage_in_is_given_back_also_when_another_command_began(
    ahead: Ahead, parts: Parts
) -> None:
    """Its outcome is `stopped`, which would cost its job an attempt."""
    parts.may_prepare.clear()
    ahead.want(many=True)
    wait_for(lambda: ahead._staging)
    ahead.give_up(keep=0)
    assert parts.noted == parts.aborted == [attempt(1)]
    ahead.want(many=False)
    parts.may_prepare.set()
    wait_for(lambda: len(parts.returned) == 4)
    assert ahead.take() == attempt(5)


def test_nothing_waits_behind_a_stage_in_while_no_command_runs(
    ahead: Ahead, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leruli_node.slots.ahead._LATE_S", 0.01)
    parts.may_prepare.clear()
    ahead.want(many=True)

    def go_on() -> None:
        wait_for(lambda: len(parts.returned) == 3)
        parts.may_prepare.set()

    threading.Thread(target=go_on).start()
    assert ahead.take() == attempt(1)
    assert sorted(parts.returned, key=lambda one: one.key) == [attempt(n) for n in (2, 3, 4)]


def test_one_is_asked_for_after_a_stage_in_that_took_long(
    ahead: Ahead, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large inputs do not gather on the disk."""
    monkeypatch.setattr("leruli_node.slots.ahead._QUICK_S", 0.0)
    ahead.want(many=False)
    assert ahead.take() == attempt(1)
    ahead.want(many=True)
    assert ahead.take() == attempt(2)
    assert parts.asked == [1, 1]
