"""The fence and its judgement of Nomad's list of nodes, which is a FAKE here."""

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
    await fence.enforce()
    first = await heard_since(pool, node)
    assert first is not None
    await fence.enforce()
    assert await heard_since(pool, node) == first
    shown["Status"] = "down"
    await fence.enforce()
    assert await pool.fetchval("SELECT alive FROM nodes") is False
    # A node that has just joined gets time to register.
    trouble = None if joined == "just now" else "Nomad does not hear it"
    assert await pool.fetchval("SELECT nomad_trouble FROM nodes") == trouble
    assert await heard_since(pool, node) is None
    shown["Status"] = "ready"
    await fence.enforce()
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


async def test_what_happened_without_comparisons_is_unknown(
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
    await fence.enforce()
    first = await heard_since(pool, node)
    assert first > before
    monkeypatch.setattr(fence_module, "_MAX_GAP_S", 0.0)
    await fence.enforce()
    assert await heard_since(pool, node) > first


@pytest.fixture
async def pair(pool: Pool, group: GroupOfTest, gateway: NomadGateway) -> tuple[Node, Node, Any]:
    """Two healthy nodes that joined an hour ago, and a Nomad that lists them."""
    north, south = await make_node(pool, group), await make_node(pool, group)
    await pool.execute(
        "UPDATE nodes SET joined_at = now() - interval '1 hour', reported_at = now()"
    )
    return north, south, Listing(gateway, [await listed(pool, group, n) for n in (north, south)])


async def stands(pool: Pool, nomad: Any, node: Node) -> tuple[str, bool, str | None]:
    """Whether the node is eligible, whether it counts as alive, and its trouble."""
    [shown] = [one for one in nomad.nodes if one["ID"] == str(node.id)]
    row = await pool.fetchrow("SELECT alive, nomad_trouble FROM nodes WHERE id = $1", node.id)
    return shown["SchedulingEligibility"], row["alive"], row["nomad_trouble"]


async def reported(pool: Pool, node: Node, ago_s: float) -> None:
    """Set the time of a node's last report."""
    await pool.execute(
        "UPDATE nodes SET reported_at = now() - make_interval(secs => $2) WHERE id = $1",
        node.id,
        ago_s,
    )


async def time_goes_by(fence: Fence, pool: Pool, node: Node, from_s: int, until_s: int = 0) -> None:
    """Run the fence repeatedly while a node reports, from so many seconds ago on."""
    for ago_s in range(from_s, until_s - 1, -15):
        await reported(pool, node, ago_s)
        await fence.enforce()


WELL = ("eligible", True, None)
BLAMED = (
    "ineligible",
    False,
    "its node agent hangs or does not reach the service: Nomad hears the node, the service does "
    "not",
)


async def test_a_node_whose_agent_hangs_gets_nothing_until_it_reports(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    north, south, nomad = pair
    fence = Fence(settings, pool, nomad)
    await reported(pool, south, 105)
    await time_goes_by(fence, pool, north, 105, 30)
    assert await stands(pool, nomad, south) == WELL
    await time_goes_by(fence, pool, north, 15)
    assert [await stands(pool, nomad, node) for node in (north, south)] == [WELL, BLAMED]
    assert south.id not in fence.unheard  # what runs there is left alone
    await reported(pool, south, 0)
    await fence.enforce()
    assert await stands(pool, nomad, south) == WELL


async def test_no_node_is_blamed_for_an_outage_of_the_service(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    north, south, nomad = pair
    fence = Fence(settings, pool, nomad)
    await reported(pool, north, 400)
    await time_goes_by(fence, pool, south, 400, 310)
    await time_goes_by(fence, pool, north, 300, 300)
    assert [await stands(pool, nomad, node) for node in (north, south)] == [WELL, WELL]
    # The service is back, and north is the first to report.
    await time_goes_by(fence, pool, north, 60)
    assert [await stands(pool, nomad, node) for node in (north, south)] == [WELL, WELL]


async def test_a_new_dispatcher_does_not_blame_a_node_at_once(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    """The new dispatcher does not know whether the service was away."""
    _, south, nomad = pair
    await reported(pool, south, 1800)
    await Fence(settings, pool, nomad).enforce()
    assert await stands(pool, nomad, south) == WELL


async def test_a_node_that_joined_again_gets_time_to_report(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    north, south, nomad = pair
    fence = Fence(settings, pool, nomad)
    await reported(pool, south, 1800)
    await pool.execute("UPDATE nodes SET joined_at = now() WHERE id = $1", south.id)
    await time_goes_by(fence, pool, north, 105)
    assert await stands(pool, nomad, south) == WELL


async def test_a_late_report_does_not_count_as_silence(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    """The setting is shorter than the time of a few reports."""
    north, south, nomad = pair
    fence = Fence(settings.model_copy(update={"node_silence_s": 0.0}), pool, nomad)
    await reported(pool, south, 45)
    await time_goes_by(fence, pool, north, 105)
    assert await stands(pool, nomad, south) == WELL


async def test_docker_that_is_away_is_the_reason_given(
    settings: Settings, pool: Pool, pair: tuple[Node, Node, Any]
) -> None:
    """The agent may be silent because it waits for Docker."""
    north, south, nomad = pair
    fence = Fence(settings, pool, nomad)
    await reported(pool, south, 1800)
    [shown] = [one for one in nomad.nodes if one["ID"] == str(south.id)]
    shown["Drivers"]["leruli"]["Healthy"] = False
    await time_goes_by(fence, pool, north, 105)
    assert await stands(pool, nomad, south) == ("eligible", False, "Docker on it does not answer")
