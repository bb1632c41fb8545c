"""A node of one group, with a program of its own, against the jobs of another group.

What Nomad lets it do (measured: any node may enter any pool, forge the end of another's allocation
and set another node down) it does here. None of it ends, starts or tells anything of a job: leave
to start, leave to upload and the receipt pass between the node agent and the service directly.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from e2e_world import BIN, GATED, StackOfTest, running_stack, wait_for
from hostile_node import HostileNode, RpcError

from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group

SETTINGS = {
    "LERULI_NODE_GRACE_SECONDS": "2",
    # So that a lie that is believed has its effect within a test's patience.
    "LERULI_QUEUE_RECEIPT_GRACE_S": "4",
    "LERULI_QUEUE_NODE_SILENCE_S": "4",
    "LERULI_QUEUE_NODE_REPORT_S": "1",
    "LERULI_NODE_CORES": "2",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[StackOfTest]:
    """A stack whose one group has a job, and that another group shares."""
    with running_stack(SETTINGS) as made:
        yield made


@pytest.fixture
def hostile(shared: StackOfTest, tmp_path: Path) -> Iterator[HostileNode]:
    """A machine that joined another group of the same service."""

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
    """The honest node's facts in Nomad."""
    node_id = json.loads((shared.data / "node" / "node.json").read_text())["nodeid"]
    found = shared.nomad(f"/v1/node/{node_id}")
    return {"id": node_id, "pool": found["NodePool"], "name": found["Name"]}


@pytest.fixture
def running(shared: StackOfTest, tmp_path: Path) -> Path:
    """A job of the honest group that runs until the test is through (ran_once)."""
    folder = tmp_path / "running"
    folder.mkdir()
    shared.submit(folder, f"echo begun >> log; {GATED}; echo done >> log", "--cores", "2")
    shared.wait_for_state(folder, "running")
    return folder


def node_in_nomad(stack: StackOfTest, node_id: str) -> Any:
    return next((n for n in stack.nomad("/v1/nodes") if n["ID"] == node_id), None)


def is_in(stack: StackOfTest, node_id: str, pool: str) -> bool:
    node = node_in_nomad(stack, node_id)
    return node is not None and node["Status"] == "ready" and node["NodePool"] == pool


def job_of(folder: Path) -> str:
    return (folder / "leruli.job").read_text().strip()


def ran_once(stack: StackOfTest, folder: Path) -> None:
    """The job completed in its first attempt, and its output is that of one run."""
    assert stack.end_gated(folder) == ("completed", None)
    attempts = stack.fetch("SELECT number FROM attempts WHERE job_id = $1::uuid", job_of(folder))
    assert [row["number"] for row in attempts] == [1]
    stack.get(folder)
    assert (folder / "log").read_text() == "begun\ndone\n"


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
    # The honest node is full: this job waits in Nomad, and the hostile machine has room for it.
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


def test_a_node_with_an_id_that_is_none_stops_nobody(
    shared: StackOfTest, hostile: HostileNode, victim: dict[str, str], running: Path
) -> None:
    pool = hostile.answer["nomad"]["pool"]
    no_uuid = uuid4().hex + "abcd"
    hostile.start(pool=pool, node_id=no_uuid)
    wait_for(lambda: is_in(shared, no_uuid, pool), seconds=40, what="Nomad takes it all the same")
    # The reconciler goes on: what an admin says of the honest node still reaches Nomad.
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


def test_forged_news_of_a_foreign_allocation_change_nothing(
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
        # The lie arrived: this is what Nomad believes now, and far longer than it would take to
        # give the attempt up for a silent node or a missing receipt.
        wait_for(
            lambda: node_in_nomad(shared, victim["id"])["Status"] != "ready",
            seconds=10,
            what="Nomad believes that the honest node is down",
        )
        told = shared.nomad(f"/v1/allocation/{allocation['ID']}")
        assert told["ClientStatus"] != "running"
        time.sleep(12)
        assert shared.status(running)[0] == "running"
    finally:
        over.set()
        liar.join()
    ran_once(shared, running)


def test_what_a_node_sees_of_a_foreign_allocation_says_nothing_of_the_job(
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
    assert allocation_id in text  # Nomad does show it
    [job] = shared.fetch("SELECT bucket, name, code FROM jobs WHERE id = $1::uuid", job_of(running))
    for told in (job["bucket"], job["code"], "begun", shared.user["LERULI_S3_ACCESS"] + ":"):
        assert told not in text, told
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


def test_repeating_another_nodes_calls_gets_nothing(
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
        # A job of another group and none at all are told apart by nothing.
        assert answer.text == hostile.call(call, **unknown, **more).text
    held = [{"jobid": one["jobid"], "attempt": 1} for one in (job, unknown)]
    told = hostile.call("node-report", nodetoken=hostile.token, attempts=held).json()
    assert {one["jobid"] for one in told["drop"]} == {job["jobid"], unknown["jobid"]}
    # Nor does it become the other node by saying so.
    again = hostile.join(hostile.group_token, hostile.compute_secret, nodeid=victim["id"])
    assert again.status_code == 200
    assert again.json()["nodeid"] != victim["id"]
    ran_once(shared, running)
