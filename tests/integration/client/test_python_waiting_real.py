"""`leruli.wait`, `as_completed` and `events` with the real service."""

from __future__ import annotations

import pytest
from batch_world import later


def test_wait(queue, group, few):
    import leruli

    before = leruli.wait(few, timeout=0.5)
    assert [one.state for one in before] == ["received"] * 3
    later(1, queue, group, "completed", few[:1])
    later(2, queue, group, "failed", few[1:])
    found = leruli.wait([*few, "no such job"])
    assert [one.state for one in found] == ["completed", "failed", "failed", "unknown"]
    assert [one.job for one in found[:3]] == [str(folder) for folder in few]


def test_as_completed(queue, group, few):
    import leruli

    later(1, queue, group, "completed", few[2:])
    later(4, queue, group, "failed", few[:1])
    found = leruli.as_completed(few, timeout=12)
    assert next(found).job == str(few[2])
    one = next(found)
    assert (one.job, one.state, one.reason) == (str(few[0]), "failed", "exit code 3")
    with pytest.raises(TimeoutError, match="Not over yet: 1 of 3 jobs"):
        next(found)


def test_events(queue, group, few):
    import leruli

    later(1, queue, group, "running", few[:2])
    later(3, queue, group, "completed", few[:1])
    found = leruli.events(timeout=20)
    first = [next(found), next(found)]
    assert {one.name for one in first} == {"case-0", "case-1"}
    assert {one.state for one in first} == {"running"}
    last = next(found)
    assert (last.name, last.state) == ("case-0", "completed")
    assert last.number > max(one.number for one in first)
    assert last.at is not None
    again = leruli.events(first[0].cursor, states="completed", timeout=5)
    assert [one.jobid for one in again] == [last.jobid]


def test_wrong_arguments(few):
    import leruli

    with pytest.raises(leruli.OldCursorError, match="Begin again"):
        next(leruli.events("0-0"))
    with pytest.raises(TypeError):
        leruli.wait("case-0")
    with pytest.raises(TypeError):
        leruli.wait(few, timeout="1")
    with pytest.raises(leruli.RefusedError):
        leruli.events(states="runing")
