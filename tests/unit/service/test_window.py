from __future__ import annotations

from leruli_queue.dispatch.window import Window


def test_an_idle_window_has_the_smallest_size() -> None:
    assert Window(4, 200).size(0, now=0.0) == 4


def test_the_window_grows_to_twice_the_placements_a_second_and_shrinks_again() -> None:
    window = Window(4, 200)
    now = 0.0
    for _ in range(20):  # ten start each second
        size = window.size(0, now=now)
        window.dispatched(10)
        now += 1.0
    assert 18 <= size <= 22
    window.size(10, now=now + 60)
    assert window.size(10, now=now + 61) == 4


def test_the_window_is_bounded() -> None:
    window = Window(4, 50)
    for now in range(20):
        size = window.size(0, now=float(now))
        window.dispatched(1000)
    assert size == 50
