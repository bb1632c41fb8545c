from __future__ import annotations

import asyncio

import pytest

from leruli_queue.access.throttle import Throttle, TooManyAttemptsError


def throttle(longest_s: float = 5.0, most_delayed: int = 100) -> Throttle:
    return Throttle(longest_s=longest_s, most_delayed=most_delayed)


def test_the_first_wrong_secrets_are_free_and_then_the_delay_grows() -> None:
    slow = throttle()
    delays = [slow.note("10.0.0.1", ["key"], now=0.0) for _ in range(14)]
    assert delays[:5] == [0.0] * 5
    assert delays[5:11] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert delays[11:] == [5.0] * 3


def test_wrong_secrets_are_forgotten_with_time() -> None:
    slow = throttle()
    for _ in range(50):
        slow.note("10.0.0.1", ["key"], now=0.0)
    assert slow.note("10.0.0.1", ["key"], now=1.0) == 5.0
    assert slow.note("10.0.0.1", ["key"], now=10_000.0) == 0.0


def test_years_of_wrong_secrets_are_forgotten_too() -> None:
    slow = throttle()
    for _ in range(100_000):
        slow.note("10.0.0.1", ["key"], now=0.0)
    assert slow.note("10.0.0.1", ["key"], now=1000.0) == 0.0


def test_one_key_id_tried_from_many_addresses_is_delayed() -> None:
    slow = throttle()
    delays = [slow.note(f"10.0.0.{number}", ["key"], now=0.0) for number in range(8)]
    assert delays[-1] > 0
    assert slow.note("10.0.1.1", ["another"], now=0.0) == 0.0


def test_many_key_ids_tried_from_one_address_are_delayed() -> None:
    slow = throttle()
    delays = [slow.note("10.0.0.1", [f"key {number}"], now=0.0) for number in range(8)]
    assert delays[-1] > 0
    # Also in one request.
    assert throttle().note("10.0.0.1", [f"key {number}" for number in range(8)], now=0.0) > 0
    # A text without a key id counts for its address.
    slow = throttle()
    assert [slow.note("10.0.0.1", [None], now=0.0) for _ in range(8)][-1] > 0


def test_an_ipv6_network_is_one_attacker_and_a_mapped_address_an_ipv4_one() -> None:
    slow = throttle()
    delays = [slow.note(f"2001:db8::{n:x}", [None], now=0.0) for n in range(8)]
    assert delays[-1] > 0
    assert slow.note("2001:db8:0:1::1", [None], now=0.0) == 0.0
    slow = throttle()
    delays = [slow.note(a, [None], now=0.0) for a in ["::ffff:10.0.0.1", "10.0.0.1"] * 4]
    assert delays[-1] > 0
    assert slow.note("::ffff:10.0.0.2", [None], now=0.0) == 0.0


def test_the_number_of_counts_is_bounded() -> None:
    slow = throttle()
    for number in range(30_000):
        slow.note(None, [f"key {number}"], now=0.0)
    assert len(slow._failures) == 10_000


async def test_more_than_the_most_delayed_answers_get_429() -> None:
    slow = throttle(longest_s=0.2, most_delayed=1)
    for _ in range(10):
        slow.note("10.0.0.1", [None])
    waiting = asyncio.create_task(slow.hold_back("10.0.0.1", [None]))
    await asyncio.sleep(0)
    with pytest.raises(TooManyAttemptsError) as refusal:
        await slow.hold_back("10.0.0.1", [None])
    assert refusal.value.status == 429
    assert refusal.value.retry_after == 1
    await waiting
    await slow.hold_back("10.0.0.1", [None])


async def test_zero_seconds_switch_delays_off() -> None:
    slow = throttle(longest_s=0.0, most_delayed=0)
    for _ in range(20):
        await slow.hold_back("10.0.0.1", ["key"])
