"""Times of containers from Docker's events, and the figures of a node made from them."""

from __future__ import annotations

import json

from bench.containers import Lives
from bench.measurements.node import gaps

JOBS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]


def event(action: str, seconds: float, **attributes: str) -> str:
    actor = {"ID": "f00", "Attributes": attributes}
    return json.dumps({"Action": action, "Actor": actor, "timeNano": int(seconds * 1e9)})


def test_start_and_end_of_a_jobs_container() -> None:
    lives = Lives()
    label = {"leruli.attempt": f"{JOBS[0]}x1"}
    lives.take(event("start", 5.5, **label))
    lives.take(event("die", 7.25, **label))
    lives.take(event("start", 6.0, maintainer="somebody else"))
    lives.take(event("exec_start", 6.0, **label))
    assert lives.started == {JOBS[0]: 5.5}
    assert lives.ended == {JOBS[0]: 7.25}


def test_the_first_end_frees_the_slot_of_the_first_start_after_all_slots_are_full() -> None:
    started = dict(zip(JOBS, (1.0, 1.5, 4.0, 4.5), strict=True))
    ended = dict(zip(JOBS, (3.0, 2.5, 6.0, 6.0), strict=True))
    lives = Lives(started, ended)
    # Two slots: free at 2.5 and at 3, taken again at 4 and at 4.5.
    assert gaps(lives, JOBS, 2) == [1.5, 1.5]
    assert gaps(lives, JOBS, 4) == []
