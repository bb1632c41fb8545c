import pytest

from leruli import patience
from leruli.errors import StorageAwayError, StorageError
from leruli.interruption import StoppedError
from leruli.patience import Patience

AWAY = StorageAwayError("The storage is away.", "Wait.")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(patience, "_PAUSE", 0.02)
    monkeypatch.setattr(patience, "_STEP", 0.01)


def failing(times, error=AWAY):
    left = [error] * times

    def work():
        if left:
            raise left.pop()
        return "done"

    return work


def proceed(_):
    pass


def test_an_absence_is_told_once_and_the_next_one_again():
    told = []
    waits = Patience(30, told.append)
    assert waits.through(failing(3), proceed) == "done"
    assert told == ["The storage is away. Waiting for it, for up to 30 s."]
    assert waits.through(failing(1), proceed) == "done"
    assert len(told) == 2


def test_it_ends_when_the_time_is_over():
    told = []
    with pytest.raises(StorageAwayError):
        Patience(0.1, told.append).through(failing(10_000), proceed)
    assert len(told) == 1


def test_without_patience_nothing_is_waited_for():
    told = []
    with pytest.raises(StorageAwayError):
        Patience(0, told.append).through(failing(1), proceed)
    assert told == []


def test_a_refusal_is_not_waited_for():
    with pytest.raises(StorageError):
        Patience(30, pytest.fail).through(failing(1, StorageError("No.")), proceed)


def test_waiting_ends_when_the_work_is_called_off():
    def off(_):
        raise StoppedError

    with pytest.raises(StoppedError):
        Patience(30, lambda _: None).through(failing(10_000), off)
