"""Groups in their own Nomad clusters: two real clusters, one dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from dispatch_world import children_of
from nomad_world import NomadOfTest
from service_world import (
    GroupOfTest,
    join,
    make_group,
    make_jobs,
    make_node,
    running_service,
    state_of,
    stay_heard,
)

from leruli_queue.dispatch.dispatcher import dispatch_for_ever
from leruli_queue.embedded import nomad_server
from leruli_queue.errors import SetupError
from leruli_queue.groups.cluster import set_cluster
from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

OTHER = "beamline"


@pytest.fixture
def both(nomad_settings: Settings, other_nomad: NomadOfTest, tmp_path: Path) -> Settings:
    """Settings with a second cluster, as an operator writes them."""
    folder = tmp_path / "clusters" / OTHER
    folder.mkdir(parents=True)
    tls = other_nomad.folders.tls
    for source in (tls.ca, tls.ca_key, tls.broker, tls.broker_key):
        (folder / source.name).write_bytes(source.read_bytes())
    (folder / "token").write_text(other_nomad.state.nomad_service_token + "\n")
    described = {
        "address": nomad_server.address(other_nomad.state),
        "servers": [f"127.0.0.1:{other_nomad.state.ports.nomad_rpc}"],
    }
    (folder / "cluster.json").write_text(json.dumps(described))
    return nomad_settings.model_copy(
        update={"nomad_clusters_dir": folder.parent, "refusal_delay_s": 0}
    )


@pytest.fixture
async def gateways(both: Settings) -> AsyncIterator[dict[str, NomadGateway]]:
    made = {name: NomadGateway(cluster) for name, cluster in read_clusters(both).items()}
    yield made
    for gateway in made.values():
        await gateway.close()


@pytest.fixture
async def dispatching_both(both: Settings, pool: Pool) -> AsyncIterator[None]:
    work = asyncio.create_task(dispatch_for_ever(both, pool))
    yield
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(200):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within 20 s: {what}")


async def in_cluster(pool: Pool, group: GroupOfTest, cluster: str) -> None:
    name = await pool.fetchval("SELECT name FROM groups WHERE id = $1", group.id)
    async with pool.acquire() as connection:
        await set_cluster(connection, name, cluster)


async def test_each_group_runs_in_its_cluster_and_can_move_to_another(
    both: Settings,
    gateways: dict[str, NomadGateway],
    pool: Pool,
    group: GroupOfTest,
    dispatching_both: None,
) -> None:
    await stay_heard(pool)
    others = await make_group(pool, "others")
    await in_cluster(pool, others, OTHER)
    await make_node(pool, group)
    await make_node(pool, others, cluster=OTHER)
    [here] = await make_jobs(pool, group, 1)
    [there] = await make_jobs(pool, others, 1)

    async def is_only_in(cluster: str, job_id: object) -> bool:
        counts = {}
        for name, gateway in gateways.items():
            children = await children_of(gateway, job_id)  # type: ignore[arg-type]
            counts[name] = [c["Status"] for c in children if c["Status"] != "dead"]
        return counts == {name: ["pending"] if name == cluster else [] for name in gateways}

    await until(lambda: is_only_in(DEFAULT, here), "the first group's job is in the default one")
    await until(lambda: is_only_in(OTHER, there), "the other group's job is in its own")

    # The group moves: its unplaced attempts are stopped in the former cluster, and dispatched in
    # the new one as soon as a node has joined that.
    await in_cluster(pool, others, DEFAULT)

    async def is_requeued() -> bool:
        return (await state_of(pool, there))[0] == "received"

    await until(is_requeued, "the job is requeued")
    await make_node(pool, others)
    await until(lambda: is_only_in(DEFAULT, there), "it is in the group's new cluster alone")
    assert await pool.fetchval("SELECT lost_attempts FROM jobs WHERE id = $1", there) == 0


async def test_a_cluster_that_is_away_does_not_hold_up_others(
    other_nomad: NomadOfTest,
    gateways: dict[str, NomadGateway],
    pool: Pool,
    group: GroupOfTest,
    dispatching_both: None,
) -> None:
    await stay_heard(pool)
    others = await make_group(pool, "others")
    await in_cluster(pool, others, OTHER)
    await make_node(pool, others, cluster=OTHER)
    await make_node(pool, group)
    other_nomad.part.stop()
    [there] = await make_jobs(pool, others, 1)
    await asyncio.sleep(2)
    [here] = await make_jobs(pool, group, 1)

    async def is_dispatched() -> bool:
        return bool(await children_of(gateways[DEFAULT], here))

    await until(is_dispatched, "the job of the group whose cluster works")
    assert await children_of(gateways[DEFAULT], there) == []
    other_nomad.part.start()

    async def is_dispatched_there() -> bool:
        try:
            return bool(await children_of(gateways[OTHER], there))
        except Exception:  # it takes a moment to be back
            return False

    await until(is_dispatched_there, "the other group's job once its cluster is back")


async def test_a_node_joins_the_cluster_of_its_group(
    both: Settings, gateways: dict[str, NomadGateway], pool: Pool, group: GroupOfTest
) -> None:
    await in_cluster(pool, group, OTHER)
    async with running_service(both) as api:
        joined = await join(api, group)
        cluster = gateways[OTHER].cluster
        assert joined["nomad"]["servers"] == list(cluster.servers)
        certificate = x509.load_pem_x509_certificate(joined["tls"]["certificate"].encode())
        authority = x509.load_pem_x509_certificate(cluster.ca_file.read_bytes())
        certificate.verify_directly_issued_by(authority)
        await in_cluster(pool, group, DEFAULT)
        answer = await api.post("/v22_1/node-report", json={"nodetoken": joined["nodetoken"]})
        assert answer.json()["standing"] == "outdated"
        assert "another Nomad cluster" in answer.json()["reason"]
        await in_cluster(pool, group, "nowhere")
        body = {
            "grouptoken": group.token,
            "computesecret": group.compute_secret,
            "name": "machine",
            "cores": 1,
            "memorymb": 1000,
            "csr": "any",
        }
        answer = await api.post("/v22_1/node-join", json=body)
        assert (answer.status_code, "'nowhere'" in answer.json()["detail"]) == (503, True)


async def test_the_database_holds_no_address_and_no_token_of_a_cluster(
    both: Settings, gateways: dict[str, NomadGateway], pool: Pool, group: GroupOfTest
) -> None:
    await in_cluster(pool, group, OTHER)
    await make_node(pool, group, cluster=OTHER)
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    dump = ""
    for row in tables:
        found = await pool.fetch(f"SELECT t::text FROM {row['tablename']} AS t")  # noqa: S608
        dump += "".join(line["t"] for line in found)
    assert OTHER in dump
    cluster = gateways[OTHER].cluster
    assert cluster.token is not None
    assert cluster.token.get_secret_value() not in dump
    assert cluster.address.removeprefix("https://") not in dump


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "token").unlink(), "token cannot be read"),
        (lambda folder: (folder / "cluster.json").write_text("{"), "not as described"),
        (
            lambda folder: (folder / "cluster.json").write_text(
                '{"address": "http://plain:4646", "servers": ["a:4647"]}'
            ),
            "address",
        ),
        (lambda folder: (folder / "broker.pem").unlink(), "tls-init"),
        (lambda folder: folder.rename(folder.with_name("Not A Name")), "cannot be a cluster"),
        (lambda folder: folder.rename(folder.with_name(DEFAULT)), "is not default"),
    ],
)
def test_a_wrong_cluster_description_is_refused_at_the_start(
    both: Settings, spoil: Callable[[Path], object], why: str
) -> None:
    assert both.nomad_clusters_dir is not None
    spoil(both.nomad_clusters_dir / OTHER)
    with pytest.raises(SetupError, match=why):
        read_clusters(both)[OTHER].tls()
