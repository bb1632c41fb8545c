"""One followed attempt when the store fails: it tries the same bytes again. A FAKE store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_store import ATTEMPT, MemoryStore

from leruli_node.attempts.store import AttemptStore
from leruli_node.errors import StoppedError
from leruli_node.folders import make_folders
from leruli_node.live import guard
from leruli_node.live.followed import FollowedAttempt
from leruli_node.live.guard import NAMED_FOR_S, FollowGuard
from leruli_node.live.live_output import LiveOutput
from leruli_node.live.places import Places
from leruli_node.model import STAGED, AttemptState, StartGrant
from leruli_node.objects.live_names import is_live, live_name
from leruli_node.objects.store_errors import StoreUnavailableError

FIRST = live_name(ATTEMPT, "out", 0)


class Running:
    """An attempt whose command runs, and its log."""

    def __init__(self, root: Path) -> None:
        folders = make_folders(root / "node")
        self.states = AttemptStore(folders.attempts)
        grant = StartGrant("b", "code", "1", 1, 100, 60.0)
        self.states.create(
            AttemptState(ATTEMPT.job, ATTEMPT.attempt, "a", "k", STAGED, "boot", grant)
        )
        job = folders.job(ATTEMPT.key)
        (job / "control" / "started").mkdir(parents=True)
        (job / "rundir").mkdir()
        self.log = job / "rundir" / "joblog.txt"
        self.log.touch()
        self.store = MemoryStore()
        self.places = Places(folders, self.states, lambda _: None)
        self.followed = FollowedAttempt(ATTEMPT, self.states, self.store, self.places)

    def write(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.followed.close()


def test_a_write_that_failed_is_repeated_with_the_same_bytes(running: Running) -> None:
    """A reader may have read the object although the answer was lost."""
    running.write(b"one\n")
    running.store.fail[FIRST] = [StoreUnavailableError("away")]
    running.followed.step()
    running.write(b"two\n")
    running.followed.step()
    running.followed.step()
    assert running.store.content[FIRST] == b"one\n"
    assert running.store.content[live_name(ATTEMPT, "out", 4)] == b"two\n"


def test_the_state_says_that_there_may_be_live_objects_before_there_are(running: Running) -> None:
    running.followed.step()
    state = running.states.get(ATTEMPT)
    assert state is not None
    assert not state.has_live_output
    running.write(b"one\n")
    running.store.fail[FIRST] = [StoreUnavailableError("away")]
    running.followed.step()
    assert AttemptStore(running.states._folder).all()[0].has_live_output


def test_a_later_follower_goes_on_where_the_one_before_ended(running: Running) -> None:
    """Not at 64 KiB before the end of the log."""
    running.write(b"x" * 1000)
    running.followed.step()
    running.write(b"y" * 200_000)
    later = FollowedAttempt(ATTEMPT, running.states, running.store, running.places)
    later.step()
    later.close()
    assert running.store.content[live_name(ATTEMPT, "out", 1000)] == b"y" * 200_000


def test_both_logs_share_what_one_step_sends(running: Running) -> None:
    errors = running.log.with_name("joberr.txt")
    errors.touch()
    running.followed.step()
    running.write(b"o" * 900_000)
    errors.write_bytes(b"e" * 900_000)
    running.followed.step()
    live = {name: data for name, data in running.store.content.items() if is_live(name)}
    assert sorted(len(data) for data in live.values()) == [500_000, 500_000]


def test_it_may_write_for_some_time_after_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(guard, "boottime", lambda: now)
    permission = FollowGuard()
    now += NAMED_FOR_S
    permission.check()
    permission.name()
    now += NAMED_FOR_S
    permission.check()
    now += 1
    with pytest.raises(StoppedError):
        permission.check()


def test_an_attempt_whose_live_objects_were_removed_is_not_followed_again(
    running: Running,
) -> None:
    """A reply of the service that was on its way may still name it."""
    running.write(b"one\n")
    stop = threading.Event()
    live = LiveOutput(running.states, running.store, running.places, stop)
    live.end(ATTEMPT)
    live.follow([ATTEMPT])
    # There are threads only while something is followed.
    assert "live" not in {thread.name for thread in threading.enumerate()}
    stop.set()
