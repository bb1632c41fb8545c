"""How the feeder writes Nomad's answers, and when it polls again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from leruli_queue.dispatch import feeder as module
from leruli_queue.dispatch.feeder import Feeder, _Dispatched
from leruli_queue.jobs.attempts import AttemptId


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[list[str]]:
    """A FAKE statement that records its calls: a test cannot time the answers of a real Nomad."""
    written: asyncio.Queue[list[str]] = asyncio.Queue()

    async def note_dispatched(_pool: object, *, nomad_job_ids: list[str], **_: object) -> None:
        written.put_nowait(nomad_job_ids)

    monkeypatch.setattr(module.queries, "note_dispatched", note_dispatched, raising=False)
    return written


def answer(name: str) -> _Dispatched:
    return _Dispatched(AttemptId(uuid4(), 1), name)


def make_feeder() -> Feeder:
    nothing = cast(Any, None)
    gateway = cast(Any, SimpleNamespace(cluster=SimpleNamespace(name="default")))
    settings = cast(Any, SimpleNamespace(window_min=4, window_max=200, feed_interval_s=0.25))
    return Feeder(settings, nothing, nothing, gateway, nothing)


class Round:
    """Answers that the feeder writes as they come; None ends them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gather_s: float) -> None:
        monkeypatch.setattr(module, "_GATHER_S", gather_s)
        self.answered: asyncio.Queue[_Dispatched | None] = asyncio.Queue()
        self._task = asyncio.create_task(make_feeder()._write_down(self.answered))

    async def end(self) -> None:
        self.answered.put_nowait(None)
        await asyncio.wait_for(self._task, 10)


async def test_answers_are_written_together_and_the_last_one_at_once(
    written: asyncio.Queue[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_feeder = Round(monkeypatch, gather_s=3600)
    for name in "abc":
        of_feeder.answered.put_nowait(answer(name))
        await asyncio.sleep(0.01)
    assert written.empty()
    await of_feeder.end()
    assert written.get_nowait() == ["a", "b", "c"]
    assert written.empty()


async def test_an_answer_does_not_wait_for_the_round(
    written: asyncio.Queue[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_feeder = Round(monkeypatch, gather_s=0.01)
    of_feeder.answered.put_nowait(answer("a"))
    assert await asyncio.wait_for(written.get(), 10) == ["a"]
    of_feeder.answered.put_nowait(answer("b"))
    await of_feeder.end()
    assert written.get_nowait() == ["b"]


@pytest.mark.parametrize(
    ("dispatched", "poll_s", "since_s", "pause_s"),
    [
        pytest.param(0, 0.01, 0.0, 0.25, id="nothing to do"),
        pytest.param(2, 0.01, 0.03, 0.0625, id="a few, Nomad has enough"),
        pytest.param(100, 0.01, 2.0, 0.0, id="many, onto free slots"),
        pytest.param(2, 0.1, 0.28, 0.3, id="a long poll takes a quarter of the time"),
        pytest.param(100, 0.1, 0.31, 0.0, id="after a long poll, many onto free slots"),
    ],
)
def test_the_pause_until_the_next_poll(
    monkeypatch: pytest.MonkeyPatch,
    dispatched: int,
    poll_s: float,
    since_s: float,
    pause_s: float,
) -> None:
    """A FAKE clock: a test cannot choose how long Nomad takes for a round."""
    feeder = make_feeder()
    feeder._poll_s, feeder._polled_at = poll_s, 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 100.0 + since_s))
    assert feeder._pause_s(dispatched) == pytest.approx(pause_s)
