import pytest

from leruli.cancellation import StoppedError
from leruli.errors import StorageAwayError, StorageError
from leruli.storage import retry
from leruli.storage.retry import StorageRetry

AWAY = StorageAwayError("The storage is away.", "Wait.")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(retry, "_PAUSE_S", 0.02)
    monkeypatch.setattr(retry, "_STEP_S", 0.01)


def failing(times, error=AWAY):
    left = [error] * times

    def work():
        if left:
            raise left.pop()
        return "done"

    return work


def not_cancelled():
    pass


def test_each_outage_is_reported_once():
    told = []
    retrying = StorageRetry(30, told.append)
    assert retrying.run(failing(3), not_cancelled) == "done"
    assert told == ["The storage is away. Waiting for it, for up to 30 s."]
    assert retrying.run(failing(1), not_cancelled) == "done"
    assert len(told) == 2


def test_it_fails_when_the_retry_time_is_over():
    told = []
    with pytest.raises(StorageAwayError):
        StorageRetry(0.1, told.append).run(failing(10_000), not_cancelled)
    assert len(told) == 1


def test_with_no_retry_time_it_fails_at_once():
    told = []
    with pytest.raises(StorageAwayError):
        StorageRetry(0, told.append).run(failing(1), not_cancelled)
    assert told == []


def test_a_refusal_is_not_retried():
    with pytest.raises(StorageError):
        StorageRetry(30, pytest.fail).run(failing(1, StorageError("No.")), not_cancelled)


def test_waiting_ends_when_the_work_is_cancelled():
    def cancelled():
        raise StoppedError

    with pytest.raises(StoppedError):
        StorageRetry(30, lambda _: None).run(failing(10_000), cancelled)
