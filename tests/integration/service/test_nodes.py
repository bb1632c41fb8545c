"""A node's life: join, report, drain, removal, and the end of its compute secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from dispatch_world import Dispatching
from service_world import (
    GroupOfTest,
    call,
    claim_jobs,
    hear,
    join,
    make_group,
    make_jobs,
    make_node,
    running_service,
    signing_request,
    state_of,
    stay_heard,
)

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
async def api(nomad_settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """The service with a real Nomad that has no clients."""
    await stay_heard(pool)
    quick = nomad_settings.model_copy(update={"refusal_delay_s": 0})
    async with running_service(quick) as client:
        yield client


async def refusal(api: httpx.AsyncClient, path: str, **body: Any) -> tuple[int, str]:
    answer = await api.post(f"/v22_1/{path}", json=body)
    return answer.status_code, answer.json()["detail"]


async def start(api: httpx.AsyncClient, pool: Pool, group: GroupOfTest, token: str) -> UUID:
    """A job of the group whose start was granted to the node."""
    [job_id] = await make_jobs(pool, group, 1)
    [claim] = await claim_jobs(pool, group, 1)
    await call(
        api,
        "attempt-start",
        nodetoken=token,
        jobid=str(job_id),
        attempt=claim["number"],
        startkey="start-key",
    )
    return job_id


async def shown(api: httpx.AsyncClient, group: GroupOfTest) -> list[dict[str, Any]]:
    answer = await call(api, "group-nodes", grouptoken=group.token)
    assert answer == await call(api, "group-nodes", adminsecret=group.admin_secret)
    return list(answer["nodes"])


async def rotate(api: httpx.AsyncClient, group: GroupOfTest) -> str:
    return str(await call(api, "group-rotate-compute-secret", adminsecret=group.admin_secret))


async def test_a_join_answers_all_that_a_machine_needs(
    api: httpx.AsyncClient, group: GroupOfTest, nomad_settings: Settings
) -> None:
    joined = await join(api, group)
    authority = x509.load_pem_x509_certificate(joined["tls"]["ca"].encode())
    assert authority.public_bytes(serialization.Encoding.PEM) == (
        nomad_settings.nomad_ca_file.read_bytes()
    )
    certificate = x509.load_pem_x509_certificate(joined["tls"]["certificate"].encode())
    certificate.verify_directly_issued_by(authority)
    assert joined["tls"]["validseconds"] == 86400
    assert joined["nomad"]["servers"] == nomad_settings.nomad_servers
    assert joined["nomad"]["pool"].startswith("group-")
    assert joined["nomad"]["introtoken"].count(".") == 2
    assert "PRIVATE" not in str(joined)
    renewed = await call(
        api, "node-certificate", nodetoken=joined["nodetoken"], csr=signing_request()
    )
    assert renewed["ca"] == joined["tls"]["ca"]
    assert renewed["certificate"] != joined["tls"]["certificate"]


async def test_an_unusable_signing_request_makes_no_node(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    status, why = await refusal(
        api,
        "node-join",
        grouptoken=group.token,
        computesecret=group.compute_secret,
        name="machine",
        cores=1,
        memorymb=1000,
        csr="nonsense",
    )
    assert (status, "signing request" in why) == (422, True)
    assert await pool.fetchval("SELECT count(*) FROM nodes") == 0


async def test_after_a_rotation_a_node_may_only_end_its_running_jobs(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    joined = await join(api, group)
    token = joined["nodetoken"]
    running = await start(api, pool, group, token)
    [waiting] = await make_jobs(pool, group, 1)
    [claim] = await claim_jobs(pool, group, 1)
    await rotate(api, group)

    start_of_next = {"nodetoken": token, "jobid": str(waiting), "attempt": claim["number"]}
    status, why = await refusal(api, "attempt-start", **start_of_next, startkey="start-key")
    assert (status, "rotated" in why) == (409, True)
    status, why = await refusal(api, "node-certificate", nodetoken=token, csr=signing_request())
    assert (status, "rotated" in why) == (403, True)
    with_old_secret = {"grouptoken": group.token, "computesecret": group.compute_secret}
    machine = {"name": "machine", "cores": 1, "memorymb": 1000, "csr": signing_request()}
    status, why = await refusal(api, "node-join", **with_old_secret, **machine)
    assert (status, "rotated" in why) == (403, True)
    # It gets nothing from the backlog either.
    await make_jobs(pool, group, 1)
    assert await claim_jobs(pool, group, 10) == []

    reply = await call(api, "node-report", nodetoken=token)
    assert reply["standing"] == "outdated"
    assert "node.env" in reply["reason"]
    [node] = await shown(api, group)
    assert (node["eligible"], node["needsnewsecret"]) == (False, True)
    assert "rotated" in node["reason"]

    attempt = {"nodetoken": token, "jobid": str(running), "attempt": 1}
    await call(api, "attempt-upload", **attempt)
    await call(api, "attempt-end", **attempt, outcome="ended", exitcode=0)
    assert (await state_of(pool, running))[0] == "completed"


async def test_with_the_new_secret_the_same_node_is_usable_again(
    api: httpx.AsyncClient, group: GroupOfTest
) -> None:
    first = await join(api, group)
    group.compute_secret = await rotate(api, group)
    again = await join(api, group, nodeid=first["nodeid"])
    assert again["nodeid"] == first["nodeid"]
    assert (await call(api, "node-report", nodetoken=again["nodetoken"]))["standing"] == "usable"
    status, _ = await refusal(api, "node-report", nodetoken=first["nodetoken"])
    assert status == 403  # the second join ended the first token


async def test_a_nodes_report_is_shown(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    joined = await join(api, group, name="big", cores=16, memorymb=64000)
    await start(api, pool, group, joined["nodetoken"])
    await call(
        api,
        "node-report",
        nodetoken=joined["nodetoken"],
        agentversion="26.11",
        nomadversion="v1.11.3",
        images=["psi4:1.5", "xtb:6"],
        diskfreemb=1000,
        disktotalmb=5000,
    )
    [node] = await shown(api, group)
    assert node["name"] == "big"
    assert (node["cores"], node["coresfree"]) == (16, 15)
    assert (node["memorymb"], node["memoryfreemb"]) == (64000, 60000)
    assert node["jobs"] == 1
    assert node["images"] == ["psi4:1.5", "xtb:6"]
    assert (node["diskfreemb"], node["disktotalmb"]) == (1000, 5000)
    assert (node["agentversion"], node["nomadversion"]) == ("26.11", "v1.11.3")
    assert (node["standing"], node["eligible"], node["reason"]) == ("usable", True, None)


async def test_nodes_of_other_groups_are_unknown(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "others")
    foreign = await join(api, other, name="theirs")
    assert await shown(api, group) == []
    for path in ("group-node-drain", "group-node-resume", "group-node-remove"):
        for name in ("theirs", foreign["nodeid"]):
            status, _ = await refusal(api, path, adminsecret=group.admin_secret, node=name)
            assert status == 404
    status, _ = await refusal(api, "group-nodes", grouptoken=group.compute_secret)
    assert status == 403
    status, _ = await refusal(api, "group-nodes", adminsecret=group.user_secret)
    assert status == 403
    status, _ = await refusal(api, "group-nodes")
    assert status == 422


async def test_a_drained_node_gets_no_job_until_it_is_resumed_even_if_it_joins_again(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    joined = await join(api, group)
    admin = {"adminsecret": group.admin_secret, "node": "machine"}
    assert (await call(api, "group-node-drain", **admin))["nodeid"] == joined["nodeid"]
    again = await join(api, group, nodeid=joined["nodeid"])
    await make_jobs(pool, group, 1)
    assert await claim_jobs(pool, group, 1) == []
    assert (await shown(api, group))[0]["standing"] == "drained"
    reply = await call(api, "node-report", nodetoken=again["nodetoken"])
    assert reply["standing"] == "drained"
    await call(api, "group-node-resume", **admin)
    assert len(await claim_jobs(pool, group, 1)) == 1


async def test_a_removed_node_stays_removed_and_its_jobs_run_elsewhere(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    joined = await join(api, group)
    token = joined["nodetoken"]
    job_id = await start(api, pool, group, token)
    answer = await call(
        api, "group-node-remove", adminsecret=group.admin_secret, node=joined["nodeid"]
    )
    assert answer["requeued"] == 1
    assert await state_of(pool, job_id) == (
        "received",
        "its node was removed by an admin; it will run again",
    )
    assert await pool.fetchval("SELECT lost_attempts FROM jobs") == 0
    assert await shown(api, group) == []
    held = [{"jobid": str(job_id), "attempt": 1}]
    reply = await call(api, "node-report", nodetoken=token, attempts=held)
    assert (reply["standing"], reply["drop"]) == ("removed", held)
    status, _ = await refusal(api, "node-certificate", nodetoken=token, csr=signing_request())
    assert status == 403
    status, _ = await refusal(api, "attempt-upload", nodetoken=token, jobid=str(job_id), attempt=1)
    assert status == 409
    assert (await join(api, group, nodeid=joined["nodeid"]))["nodeid"] != joined["nodeid"]
    entries = (await call(api, "group-audit", adminsecret=group.admin_secret))["entries"]
    assert ("node-removed", "machine") in [(e["action"], e["subject"]) for e in entries]


async def test_one_of_two_nodes_of_a_name_is_named_by_its_id(
    api: httpx.AsyncClient, group: GroupOfTest
) -> None:
    nodes = [await join(api, group), await join(api, group)]
    admin = {"adminsecret": group.admin_secret}
    status, why = await refusal(api, "group-node-drain", **admin, node="machine")
    assert status == 409
    assert all(node["nodeid"] in why for node in nodes)
    await call(api, "group-node-drain", **admin, node=nodes[1]["nodeid"].upper())
    drained = [n["nodeid"] for n in await shown(api, group) if n["standing"] == "drained"]
    assert drained == [nodes[1]["nodeid"]]


async def test_a_held_attempt_is_not_abandoned_on_nomads_word(
    api: httpx.AsyncClient,
    group: GroupOfTest,
    pool: Pool,
    dispatcher: Dispatching,
) -> None:
    joined = await join(api, group)
    token = joined["nodetoken"]
    job_id = await start(api, pool, group, token)
    held = [{"jobid": str(job_id), "attempt": 1}]
    await hear(pool, await make_node(pool, group))
    # Nomad's view after another node lied to it.
    lie = "UPDATE attempts SET {} = now() - interval '1 hour', allocation_id = $1"
    for column in ("allocation_dead_at", "silent_since"):
        await call(api, "node-report", nodetoken=token, attempts=held)
        await pool.execute(lie.format(column), str(uuid4()))
        await dispatcher.maintenance.overdue.abandon()
        assert (await state_of(pool, job_id))[0] == "submitted"
    # Not for longer than the job's time limit, whatever the node reports.
    await pool.execute("UPDATE attempts SET started_at = now() - interval '10 days'")
    await dispatcher.maintenance.overdue.abandon()
    assert (await state_of(pool, job_id))[0] == "received"


@pytest.mark.parametrize("quiet", ["it does not hold it", "it reports no longer"])
async def test_an_attempt_that_its_node_does_not_hold_is_abandoned(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool, dispatcher: Dispatching, quiet: str
) -> None:
    joined = await join(api, group)
    job_id = await start(api, pool, group, joined["nodetoken"])
    held = [{"jobid": str(job_id), "attempt": 1}] if "no longer" in quiet else []
    await call(api, "node-report", nodetoken=joined["nodetoken"], attempts=held)
    if held:
        await pool.execute("UPDATE nodes SET reported_at = now() - interval '10 minutes'")
    await pool.execute(
        "UPDATE attempts SET silent_since = now() - interval '1 hour', allocation_id = $1",
        str(uuid4()),
    )
    await hear(pool, await make_node(pool, group))
    await dispatcher.maintenance.overdue.abandon()
    assert await state_of(pool, job_id) == (
        "received",
        "its node does not answer; it will run again",
    )
    reply = await call(
        api,
        "node-report",
        nodetoken=joined["nodetoken"],
        attempts=[{"jobid": str(job_id), "attempt": 1}],
    )
    assert len(reply["drop"]) == 1


async def test_a_node_learns_which_attempts_to_cancel(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    token = (await join(api, group))["nodetoken"]
    wanted, unwanted = [await start(api, pool, group, token) for _ in range(2)]
    held = [{"jobid": str(job_id), "attempt": 1} for job_id in (wanted, unwanted)]
    reply = await call(api, "node-report", nodetoken=token, attempts=held)
    assert (reply["drop"], reply["cancel"]) == ([], [])
    await call(api, "task-cancel", secret=group.user_secret, jobid=str(unwanted))
    reply = await call(api, "node-report", nodetoken=token, attempts=held)
    assert (reply["drop"], reply["cancel"]) == ([], held[1:])


async def test_the_fence_marks_each_node_that_nomad_lacks(
    api: httpx.AsyncClient, group: GroupOfTest, pool: Pool, dispatcher: Dispatching
) -> None:
    """Nodes that Nomad does not have: nothing to make ineligible, but they are not alive."""
    await pool.execute("DROP TRIGGER stay_heard ON nodes")
    await join(api, group)
    await dispatcher.fence.enforce()
    [node] = await shown(api, group)
    why = "it has just joined, and Nomad does not hear it yet"
    assert (node["standing"], node["reason"]) == ("troubled", why)
    await pool.execute("UPDATE nodes SET joined_at = now() - interval '1 hour'")
    await dispatcher.fence.enforce()
    [node] = await shown(api, group)
    assert (node["standing"], node["reason"]) == ("troubled", "Nomad does not hear it")
