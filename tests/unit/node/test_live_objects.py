"""Live objects when the store fails, and how many are kept. The store is a FAKE with faults."""

from __future__ import annotations

import pytest
from memory_store import ATTEMPT, MemoryStore

from leruli_node.errors import StoppedError
from leruli_node.live import live_objects
from leruli_node.live.guard import FollowGuard, RemovalGuard
from leruli_node.live.live_objects import LiveObjects, remove_live_objects
from leruli_node.live.tail import Piece
from leruli_node.objects.live_names import LIVE, is_live, live_name, parse_live_name


def live_names(store: MemoryStore) -> list[str]:
    return sorted(name for name in store.content if name.startswith(LIVE))


def test_the_oldest_objects_go_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_objects, "_MOST_OBJECTS", 10)
    store = MemoryStore()
    live = LiveObjects(store, "b", ATTEMPT, FollowGuard())
    for offset in range(11):
        live.write("out", Piece(offset, b"x"))
    assert live_names(store) == [live_name(ATTEMPT, "out", offset) for offset in range(2, 11)]


def test_the_oldest_objects_go_when_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_objects, "_MOST_BYTES", 1000)
    store = MemoryStore()
    live = LiveObjects(store, "b", ATTEMPT, FollowGuard())
    for number in range(11):
        live.write("err", Piece(100 * number, b"x" * 100))
    assert live_names(store) == [live_name(ATTEMPT, "err", 100 * n) for n in range(2, 11)]


def test_a_log_that_begins_again_removes_what_was_of_the_earlier_one() -> None:
    store = MemoryStore()
    live = LiveObjects(store, "b", ATTEMPT, FollowGuard())
    live.write("err", Piece(0, b"kept"))
    live.write("out", Piece(500, b"earlier"))
    live.write("out", Piece(0, b"now", begins_again=True))
    assert live_names(store) == [live_name(ATTEMPT, "err", 0), live_name(ATTEMPT, "out", 0)]


def test_nothing_is_written_when_the_attempt_is_followed_no_longer() -> None:
    store, guard = MemoryStore(), FollowGuard()
    guard.close()
    with pytest.raises(StoppedError):
        LiveObjects(store, "b", ATTEMPT, guard).write("out", Piece(0, b"late"))
    assert not live_names(store)


def test_objects_of_others_stay_when_an_attempt_ends() -> None:
    store = MemoryStore()
    live = LiveObjects(store, "b", ATTEMPT, FollowGuard())
    live.write("out", Piece(0, b"own"))
    foreign = live_name(ATTEMPT, "out", 7)
    store.content[foreign], store.marks[foreign] = b"of somebody else", None
    remove_live_objects(store, "b", ATTEMPT, RemovalGuard(), live.names())
    assert live_names(store) == [foreign]


def test_only_names_of_live_objects_are_reserved() -> None:
    assert all(is_live(name) for name in (".leruli/live", ".leruli/live/x", ".leruli/live/1/out/0"))
    assert not any(is_live(name) for name in (".leruli", ".leruli/lives", "a/.leruli/live/x"))


def test_a_name_is_read_as_it_was_made() -> None:
    assert parse_live_name(ATTEMPT, live_name(ATTEMPT, "err", 12)) == ("err", 12)
    assert parse_live_name(ATTEMPT, f"{LIVE}2/err/12") is None
    assert parse_live_name(ATTEMPT, f"{LIVE}1/err/000000000000012") is None
