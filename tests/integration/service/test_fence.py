"""The fence: what it makes of the nodes as Nomad lists them, which is a FAKE list here."""

from __future__ import annotations

from typing import Any

import pytest
from dispatch_world import Listing, listed
from service_world import GroupOfTest, hear, make_node

from leruli_queue.access.authenticate import Node
from leruli_queue.dispatch import fence as fence_module
from leruli_queue.dispatch.fence import Fence
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


async def heard_since(pool: Pool, node: Node) -> Any:
    return await pool.fetchval("SELECT alive_since FROM nodes WHERE id = $1", node.id)


@pytest.mark.parametrize("joined", ["just now", "an hour ago"])
async def test_a_node_is_heard_since_it_came_back(
    settings: Settings, pool: Pool, group: GroupOfTest, gateway: NomadGateway, joined: str
) -> None:
    node = await make_node(pool, group)
    if joined != "just now":
        await pool.execute("UPDATE nodes SET joined_at = now() - interval '1 hour'")
    assert await heard_since(pool, node) is None
    shown = await listed(pool, group, node)
    nomad: Any = Listing(gateway, [shown])
    fence = Fence(settings, pool, nomad)
    await fence.keep()
    first = await heard_since(pool, node)
    assert first is not None
    await fence.keep()
    assert await heard_since(pool, node) == first
    shown["Status"] = "down"
    await fence.keep()
    # One that has just joined is given the time to register.
    assert await pool.fetchval("SELECT alive FROM nodes") is (joined == "just now")
    assert await heard_since(pool, node) is None
    shown["Status"] = "ready"
    await fence.keep()
    assert await heard_since(pool, node) > first


async def test_a_node_that_joins_again_is_not_heard_until_nomad_has_it(
    pool: Pool, group: GroupOfTest
) -> None:
    node = await make_node(pool, group)
    await hear(pool, node)
    row = dict(await pool.fetchrow("SELECT * FROM nodes WHERE id = $1", node.id))
    names = ("id", "group_id", "cluster", "name", "key_id", "token_hash", "epoch", "cores")
    await queries.upsert_node(
        pool, **{name: row[name] for name in (*names, "memory_mb", "agent_version")}
    )
    assert await heard_since(pool, node) is None


async def test_what_happened_while_nobody_looked_is_not_known(
    settings: Settings,
    pool: Pool,
    group: GroupOfTest,
    gateway: NomadGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another dispatcher, or the same one after Nomad was away for long."""
    node = await make_node(pool, group)
    await hear(pool, node)
    before = await heard_since(pool, node)
    nomad: Any = Listing(gateway, [await listed(pool, group, node)])
    fence = Fence(settings, pool, nomad)
    await fence.keep()
    first = await heard_since(pool, node)
    assert first > before
    monkeypatch.setattr(fence_module, "_LOOKED_AWAY_S", 0.0)
    await fence.keep()
    assert await heard_since(pool, node) > first


@pytest.fixture
async def pair(pool: Pool, group: GroupOfTest, gateway: NomadGateway) -> tuple[Node, Node, Any]:
    """Two nodes that joined an hour ago and are well, and Nomad that lists them."""
    north, south = await make_node(pool, group), await make_node(pool, group)
    await pool.execute(
        "UPDATE nodes SET joined_at = now() - interval '1 hour', reported_at = now()"
    )
    return north, south, Listing(gateway, [await listed(pool, group, n) for n in (north, south)])


async def stands(pool: Pool, nomad: Any, node: Node) -> tuple[str, bool, bool]:
    """Whether Nomad may place on it; whether it counts as alive; whether there is trouble."""
    [shown] = [one for one in nomad.nodes if one["ID"] == str(node.id)]
    row = await pool.fetchrow("SELECT alive, nomad_trouble FROM nodes WHERE id = $1", node.id)
    return shown["SchedulingEligibility"], row["alive"], row["nomad_trouble"] is not None


WELL = ("eligible", True, False)
BLAMED = ("ineligible", False, True)


async def test_a_node_whose_agent_hangs_gets_nothing_until_it_reports(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    north, south, nomad = pair
    fence = Fence(settings, pool, nomad)
    silence = "UPDATE nodes SET reported_at = now() - make_interval(secs => $2) WHERE id = $1"
    await pool.execute(silence, south.id, settings.node_silence_s - 5)
    await fence.keep()
    assert await stands(pool, nomad, south) == WELL
    await pool.execute(silence, south.id, settings.node_silence_s + 5)
    await fence.keep()
    assert [await stands(pool, nomad, node) for node in (north, south)] == [WELL, BLAMED]
    assert south.id not in fence.unheard  # what runs there is left alone
    await pool.execute(silence, south.id, 0.0)
    await fence.keep()
    assert await stands(pool, nomad, south) == WELL


async def test_no_node_is_blamed_while_none_reports(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    """The service is away, or has just come back."""
    north, south, nomad = pair
    await pool.execute("UPDATE nodes SET reported_at = now() - interval '30 minutes'")
    await Fence(settings, pool, nomad).keep()
    assert [await stands(pool, nomad, node) for node in (north, south)] == [WELL, WELL]


async def test_a_node_that_joined_again_gets_the_time_to_report(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    _, south, nomad = pair
    await pool.execute(
        "UPDATE nodes SET joined_at = now(), reported_at = now() - interval '30 minutes' "
        "WHERE id = $1",
        south.id,
    )
    await Fence(settings, pool, nomad).keep()
    assert await stands(pool, nomad, south) == WELL


async def test_one_late_report_is_no_silence(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    """Where the setting is shorter than a few reports take."""
    _, south, nomad = pair
    await pool.execute(
        "UPDATE nodes SET reported_at = now() - make_interval(secs => $2) WHERE id = $1",
        south.id,
        2 * settings.node_report_s,
    )
    await Fence(settings.model_copy(update={"node_silence_s": 0.0}), pool, nomad).keep()
    assert await stands(pool, nomad, south) == WELL
