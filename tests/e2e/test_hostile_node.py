"""A node of one group, with its own program, against the jobs of another group.

It does everything that Nomad allows. Measured: any node may enter any pool, forge the end of
another node's allocation, and set another node down. None of this ends or starts a job, or shows
anything about it. Start grant, upload lease and receipt pass directly between node agent and
service.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from e2e_world import BIN, GATED, StackOfTest, running_stack, wait_for
from hostile_node import HostileNode, RpcError, is_in, job_of, node_in_nomad, ran_once

from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group

SETTINGS = {
    "LERULI_NODE_GRACE_SECONDS": "2",
    # Short, so that a believed lie would have its effect during the test.
    "LERULI_QUEUE_RECEIPT_GRACE_S": "4",
    "LERULI_QUEUE_NODE_SILENCE_S": "4",
    "LERULI_QUEUE_NODE_REPORT_S": "1",
    "LERULI_NODE_CORES": "2",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[StackOfTest]:
    """A stack that two groups share; one of them has the job."""
    with running_stack(SETTINGS) as made:
        yield made


@pytest.fixture
def hostile(shared: StackOfTest, tmp_path: Path) -> Iterator[HostileNode]:
    """A machine of the other group."""

    async def make() -> tuple[str, str]:
        connection = await shared.connect()
        try:
            group = await create_group(connection, f"others {uuid4().hex[:8]}")
            return group.group_token, await rotate_compute_secret(connection, group.id)
        finally:
            await connection.close()

    made = HostileNode(tmp_path / "hostile", BIN / "nomad", shared.user["LERULI_BASEURL"])
    assert made.join(*asyncio.run(make())).status_code == 200
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def victim(shared: StackOfTest) -> dict[str, str]:
    """Id, pool and name of the honest node in Nomad."""
    node_id = json.loads((shared.data / "node" / "node.json").read_text())["nodeid"]
    found = shared.nomad(f"/v1/node/{node_id}")
    return {"id": node_id, "pool": found["NodePool"], "name": found["Name"]}


@pytest.fixture
def running(shared: StackOfTest, tmp_path: Path) -> Path:
    """A job of the honest group that runs until the end of the test (ran_once)."""
    folder = tmp_path / "running"
    folder.mkdir()
    shared.submit(folder, f"echo begun >> log; {GATED}; echo done >> log", "--cores", "2")
    shared.wait_for_state(folder, "running")
    return folder


def test_a_node_that_enters_a_foreign_pool_gets_no_job_there(
    shared: StackOfTest,
    hostile: HostileNode,
    victim: dict[str, str],
    running: Path,
    tmp_path: Path,
) -> None:
    hostile.start(pool=hostile.answer["nomad"]["pool"])
    wait_for(
        lambda: is_in(shared, hostile.node_id, hostile.answer["nomad"]["pool"]),
        seconds=40,
        what="the hostile node is in its own pool",
    )
    hostile.stop()
    # The honest node is full, so this job is unplaced. The hostile machine has free resources.
    waiting = tmp_path / "waiting"
    waiting.mkdir()
    shared.submit(waiting, "echo begun >> log; echo done >> log", "--cores", "2")
    shared.wait_for_state(waiting, "submitted")
    meta = shared.nomad(f"/v1/node/{victim['id']}")["Meta"]
    hostile.start(
        pool=victim["pool"],
        name=victim["name"],
        meta={name: value for name, value in meta.items() if name.startswith("leruli_")},
    )
    wait_for(
        lambda: is_in(shared, hostile.node_id, victim["pool"]),
        seconds=40,
        what="the hostile node is in the honest group's pool",
    )
    wait_for(
        lambda: node_in_nomad(shared, hostile.node_id)["SchedulingEligibility"] == "ineligible",
        seconds=20,
        what="the hostile node is ineligible",
    )
    ran_once(shared, running)
    ran_once(shared, waiting)
    assert shared.nomad(f"/v1/node/{hostile.node_id}/allocations") == []
    shown = hostile.call("group-nodes", grouptoken=hostile.group_token).json()["nodes"]
    assert [node["eligible"] for node in shown] == [False]
    assert "another node pool" in shown[0]["reason"]
    honest = hostile.call("group-nodes", grouptoken=shared.secrets["group_token"]).json()["nodes"]
    assert [node["nodeid"] for node in honest] == [victim["id"]]


def test_a_node_with_an_invalid_id_does_not_stop_the_reconciler(
    shared: StackOfTest, hostile: HostileNode, victim: dict[str, str], running: Path
) -> None:
    pool = hostile.answer["nomad"]["pool"]
    no_uuid = uuid4().hex + "abcd"
    hostile.start(pool=pool, node_id=no_uuid)
    wait_for(lambda: is_in(shared, no_uuid, pool), seconds=40, what="Nomad accepts it")
    # The reconciler still works: an admin's drain of the honest node reaches Nomad.
    admin = {"adminsecret": shared.secrets["admin_secret"], "node": victim["id"]}
    assert shared.call("group-node-drain", **admin).status_code == 200
    try:
        wait_for(
            lambda: node_in_nomad(shared, victim["id"])["SchedulingEligibility"] == "ineligible",
            seconds=20,
            what="the honest node is ineligible",
        )
    finally:
        assert shared.call("group-node-resume", **admin).status_code == 200
    assert node_in_nomad(shared, no_uuid)["Status"] == "ready"
    ran_once(shared, running)


def test_forged_updates_of_a_foreign_allocation_change_nothing(
    shared: StackOfTest, hostile: HostileNode, victim: dict[str, str], running: Path
) -> None:
    pool = hostile.answer["nomad"]["pool"]
    hostile.start(pool=pool)
    wait_for(
        lambda: is_in(shared, hostile.node_id, pool), seconds=40, what="the hostile node is ready"
    )
    [allocation] = [
        one
        for one in shared.nomad(f"/v1/node/{victim['id']}/allocations")
        if job_of(running).replace("-", "") in one["JobID"]
    ]
    over = threading.Event()

    def set_the_victim_down() -> None:
        rpc = hostile.rpc()
        while not over.wait(0.3):
            rpc.call(
                "Node.UpdateStatus",
                NodeID=victim["id"],
                Status="down",
                Region="global",
                AuthToken=hostile.secret,
            )
        rpc.close()

    liar = threading.Thread(target=set_the_victim_down)
    liar.start()
    try:
        rpc = hostile.rpc()
        dead = {"State": "dead", "Failed": False, "FinishedAt": None, "Events": []}
        forged = {
            "ID": allocation["ID"],
            "NodeID": victim["id"],
            "JobID": allocation["JobID"],
            "Namespace": "leruli",
            "ClientStatus": "complete",
            "TaskStates": {"main": dead},
        }
        rpc.call("Node.UpdateAlloc", Alloc=[forged], Region="global", AuthToken=hostile.secret)
        rpc.close()
        # Nomad believes the lie, for far longer than it takes to abandon an attempt because of a
        # silent node or a missing receipt.
        wait_for(
            lambda: node_in_nomad(shared, victim["id"])["Status"] != "ready",
            seconds=10,
            what="Nomad believes that the honest node is down",
        )
        shown = shared.nomad(f"/v1/allocation/{allocation['ID']}")
        assert shown["ClientStatus"] != "running"
        time.sleep(12)
        assert shared.status(running)[0] == "running"
    finally:
        over.set()
        liar.join()
    ran_once(shared, running)


def test_a_foreign_allocation_shows_a_node_nothing_about_the_job(
    shared: StackOfTest, hostile: HostileNode, victim: dict[str, str], running: Path
) -> None:
    pool = hostile.answer["nomad"]["pool"]
    hostile.start(pool=pool)
    wait_for(
        lambda: is_in(shared, hostile.node_id, pool), seconds=40, what="the hostile node is ready"
    )
    [allocation_id] = [
        one["ID"]
        for one in shared.nomad(f"/v1/node/{victim['id']}/allocations")
        if job_of(running).replace("-", "") in one["JobID"]
    ]
    rpc = hostile.rpc()
    seen = rpc.call(
        "Alloc.GetAllocs", AllocIDs=[allocation_id], Region="global", AuthToken=hostile.secret
    )
    rpc.close()
    text = str(seen)
    assert allocation_id in text  # Nomad does show the allocation
    [job] = shared.fetch("SELECT bucket, name, code FROM jobs WHERE id = $1::uuid", job_of(running))
    for fact in (job["bucket"], job["code"], "begun", shared.user["LERULI_S3_ACCESS"] + ":"):
        assert fact not in text, fact
    ran_once(shared, running)


def test_a_nodes_identity_opens_nothing_else_in_nomad(
    shared: StackOfTest, hostile: HostileNode, victim: dict[str, str], running: Path
) -> None:
    pool = hostile.answer["nomad"]["pool"]
    hostile.start(pool=pool)
    wait_for(
        lambda: is_in(shared, hostile.node_id, pool), seconds=40, what="the hostile node is ready"
    )
    [allocation] = [
        one
        for one in shared.nomad(f"/v1/node/{victim['id']}/allocations")
        if job_of(running).replace("-", "") in one["JobID"]
    ]
    address = shared.nomad_address
    child = allocation["JobID"].replace("/", "%2F")
    wanted = {"NodePool": victim["pool"], "NodeName": victim["name"]}
    for method, path, body in (
        ("GET", "/v1/jobs?namespace=leruli", None),
        ("GET", f"/v1/job/{child}?namespace=leruli", None),
        ("DELETE", f"/v1/job/{child}?namespace=leruli", None),
        ("POST", f"/v1/allocation/{allocation['ID']}/stop?namespace=leruli", {}),
        ("POST", f"/v1/node/{victim['id']}/purge", {}),
        ("POST", "/v1/acl/identity/client-introduction-token", wanted),
    ):
        assert hostile.http(address, path, method, body) == 403, path
    rpc = hostile.rpc()
    mine = {"Region": "global", "Namespace": "leruli", "AuthToken": hostile.secret}
    for call, arguments in (
        ("Job.Deregister", {"JobID": allocation["JobID"]}),
        ("Node.Deregister", {"NodeID": victim["id"]}),
        ("Node.UpdateEligibility", {"NodeID": victim["id"], "Eligibility": "ineligible"}),
        ("Alloc.Stop", {"AllocID": allocation["ID"]}),
    ):
        with pytest.raises(RpcError, match="Permission denied"):
            rpc.call(call, **arguments, **mine)
    rpc.close()
    ran_once(shared, running)


def test_another_nodes_calls_are_refused_when_repeated(
    shared: StackOfTest, hostile: HostileNode, victim: dict[str, str], running: Path
) -> None:
    job = {"jobid": job_of(running), "attempt": 1, "nodetoken": hostile.token}
    [row] = shared.fetch("SELECT start_key FROM jobs WHERE id = $1::uuid", job_of(running))
    unknown = job | {"jobid": str(uuid4())}
    for call, more in (
        ("attempt-start", {"startkey": row["start_key"]}),
        ("attempt-start", {"startkey": "another-key"}),
        ("attempt-upload", {}),
        ("attempt-end", {"outcome": "ended", "exitcode": 0}),
        ("attempt-end", {"outcome": "node_trouble"}),
    ):
        answer = hostile.call(call, **job, **more)
        assert answer.status_code == 409
        # The answer is the same for another group's job and for an unknown job.
        assert answer.text == hostile.call(call, **unknown, **more).text
    held = [{"jobid": one["jobid"], "attempt": 1} for one in (job, unknown)]
    report = hostile.call("node-report", nodetoken=hostile.token, attempts=held).json()
    assert {one["jobid"] for one in report["drop"]} == {job["jobid"], unknown["jobid"]}
    # Nor can it take the other node's id.
    again = hostile.join(hostile.group_token, hostile.compute_secret, nodeid=victim["id"])
    assert again.status_code == 200
    assert again.json()["nodeid"] != victim["id"]
    ran_once(shared, running)
