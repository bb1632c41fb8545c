"""Two nodes and a service: a group's day, and its faults.

No job is lost, none is reported completed twice, and a bucket holds output of the last attempt.
docs/developers/attempts.md, "Losing a node", has the expected outcome of each fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import BIN, StackOfTest, wait_for
from hostile_node import HostileNode
from hosts import Network
from minio import Minio
from pair import CORES, GATED, Batch, Pair, containers, held, phases

_NOT_ITS_JOB = "There is no such attempt for this node."


@pytest.fixture(scope="module")
def pair(net: Network, stack: StackOfTest) -> Iterator[Pair]:
    made = Pair(net, stack)
    try:
        made.make()
        yield made
    finally:
        made.close()


def test_sixty_jobs_are_spread_over_both(pair: Pair, stack: StackOfTest, folder: Path) -> None:
    batch = Batch.submit(stack, folder, 60, "echo $(($(cat input.dat) * 2)) >doubled", "--cores=4")
    batch.wait_for("completed", seconds=150)
    batch.check_each_completed_once()
    # A slot may take over a job that waits in Nomad. The attempt there never starts.
    assert batch.starts() == [1] * 60
    ran_on = Counter(row["node"] for row in batch.rows())
    assert set(ran_on) == {"north", "south"}
    assert min(ran_on.values()) >= 10
    assert batch.fetch() == [{"doubled": f"{2 * number}\n"} for number in range(60)]


def test_a_drained_node_gets_no_new_jobs_and_its_running_ones_end(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    with pair.drained(pair.south):
        before = Batch.submit(stack, folder / "before", 2, GATED)
        before.wait_for("running")
    assert len(before.running_on(pair.north)) == 2
    with pair.drained(pair.north):
        shown = pair.shown(pair.north)
        assert (shown["standing"], shown["eligible"], shown["jobs"]) == ("drained", False, 2)
        # Both have free cores, and Nomad would fill the one that is in use first.
        meanwhile = Batch.submit(stack, folder / "meanwhile", 6, "true")
        meanwhile.wait_for("completed")
        before.end(pair.north)
    assert {row["node"] for row in meanwhile.rows()} == {"south"}
    before.check_each_completed_once()
    assert before.fetch() == [{"attempt-1": ""}] * 2
    with pair.drained(pair.south):
        afterwards = Batch.submit(stack, folder / "afterwards", 1, "true")
        afterwards.wait_for("completed")
    assert [row["node"] for row in afterwards.rows()] == ["north"]


def test_a_machine_of_another_group_gets_no_job_whatever_it_says_of_itself(
    pair: Pair, stack: StackOfTest, folder: Path, tmp_path: Path
) -> None:
    ours = stack.nomad(f"/v1/node/{pair.shown(pair.north)['nodeid']}")
    hostile = HostileNode(tmp_path / "hostile", BIN / "nomad", stack.user["LERULI_BASEURL"])
    group_token, secret = pair.other_group()
    # Its secret is not valid for our group, nor ours for its own.
    assert hostile.join(stack.secrets["group_token"], secret).status_code == 403
    assert hostile.join(group_token, stack.secrets["compute_secret"]).status_code == 403
    assert hostile.join(group_token, secret).status_code == 200
    meta = {name: value for name, value in ours["Meta"].items() if name.startswith("leruli_")}

    def stands(pool: str, eligible: str) -> bool:
        nodes = [node for node in stack.nomad("/v1/nodes") if node["ID"] == hostile.node_id]
        return [(n["NodePool"], n["Status"], n["SchedulingEligibility"]) for n in nodes] == [
            (pool, "ready", eligible)
        ]

    own_pool = hostile.answer["nomad"]["pool"]
    try:
        # Its introduction is for its own pool; once registered, Nomad lets it change.
        hostile.start(pool=own_pool)
        wait_for(lambda: stands(own_pool, "eligible"), seconds=40, what="it is a node")
        hostile.stop()
        hostile.start(pool=ours["NodePool"], name=ours["Name"], meta=meta)
        wait_for(lambda: stands(ours["NodePool"], "ineligible"), seconds=40, what="the fence")
        # Our nodes are full; it has free cores.
        full = Batch.submit(stack, folder / "full", 2, GATED, f"--cores={CORES}")
        full.wait_for("running")
        waiting = Batch.submit(stack, folder / "waiting", 2, "true", f"--cores={CORES}")
        waiting.wait_for("submitted")
        attempt = {"jobid": waiting.jobs[0], "attempt": 1, "startkey": "0" * 32}
        stolen = hostile.call("attempt-start", nodetoken=hostile.token, **attempt)
        assert (stolen.status_code, stolen.json()["detail"]) == (409, _NOT_ITS_JOB)
        full.end(*pair.both)
        waiting.wait_for("completed")
        assert stack.nomad(f"/v1/node/{hostile.node_id}/allocations") == []
    finally:
        hostile.stop()
    for batch in (full, waiting):
        batch.check_each_completed_once()
        assert {row["node"] for row in batch.rows()} <= {"north", "south"}


def test_a_rotation_with_jobs_running_and_waiting(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    running = Batch.submit(stack, folder / "running", 4, GATED, f"--cores={CORES // 2}")
    running.wait_for("running")
    waiting = Batch.submit(stack, folder / "waiting", 6, "true", f"--cores={CORES // 2}")
    waiting.wait_for("submitted", count=4)
    secret = pair.rotate()
    for machine in pair.both:
        shown = pair.shown(machine)
        assert (shown["standing"], shown["needsnewsecret"]) == ("outdated", True)
        assert shown["jobs"] == 2
    # North becomes free, and gets nothing: it ends and says why.
    running.open(pair.north)
    assert pair.north.wait_for_end() == 77, pair.north.said()
    assert "The compute secret may have been rotated" in pair.north.said()
    assert running.states() == {"completed": 2, "running": 2}
    # Nomad may have placed a job on north while north ended. Such a job comes back when Nomad has
    # missed north's heartbeats, 25 s later on a quiet machine.
    waiting.wait_for("received", seconds=150)
    # One machine with the new secret can run all queued jobs; south still runs its old ones.
    pair.north.write_settings(LERULI_COMPUTE_SECRET=secret)
    pair.north.start()
    waiting.wait_for("completed")
    assert {row["node"] for row in waiting.rows()} == {"north"}
    assert [pair.shown(m)["needsnewsecret"] for m in pair.both] == [False, True]
    running.end(pair.south)
    assert pair.south.wait_for_end() == 77, pair.south.said()
    pair.south.write_settings(LERULI_COMPUTE_SECRET=secret)
    pair.south.start()
    for machine in pair.both:
        # Not wait_until_ready: Nomad can still show a restarted machine as it was before.
        pair.wait_for_standing(machine, "usable")
    for batch in (running, waiting):
        batch.check_each_completed_once()
    assert [row["attempt"] for row in running.rows()] == [1] * 4


def run_two_on_north(pair: Pair, stack: StackOfTest, folder: Path) -> Batch:
    """Two jobs that run on north, and south free."""
    with pair.drained(pair.south):
        batch = Batch.submit(stack, folder, 2, GATED)
        batch.wait_for("running")
    assert len(batch.running_on(pair.north)) == 2
    return batch


def check_ran_on_north_alone(batch: Batch) -> None:
    """Check that the first attempt completed, whatever happened."""
    batch.check_each_completed_once()
    assert {(row["attempt"], row["node"]) for row in batch.rows()} == {(1, "north")}
    assert batch.fetch() == [{"attempt-1": ""}] * batch.count


def test_nomads_client_is_killed_under_running_jobs(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    batch = run_two_on_north(pair, stack, folder)
    pair.north.host.shell("kill -KILL $(pgrep -u leruli -f 'nomad agent')")
    pair.north.wait_to_say("Nomad ended with code -9; starting it again")
    batch.end(pair.north)
    check_ran_on_north_alone(batch)


def test_the_agent_is_killed_under_running_jobs(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    batch = run_two_on_north(pair, stack, folder)
    pair.north.host.shell("kill -KILL $(cat /data/leruli/nomad/agent.lock)")
    # One job ends while no agent runs.
    batch.open(pair.north, batch.jobs[:1])
    assert pair.north.wait_for_end() == 1
    assert "the node agent ended unexpectedly (code 137)" in pair.north.said()
    assert len(held(pair.north)) == 2
    pair.north.start()
    batch.end(pair.north)
    check_ran_on_north_alone(batch)
    pair.north.wait_until_ready()


def test_an_agent_that_hangs_gets_no_new_jobs(pair: Pair, stack: StackOfTest, folder: Path) -> None:
    """Its Nomad lives and would get jobs that nobody there starts."""
    batch = run_two_on_north(pair, stack, folder)
    agent = "$(cat /data/leruli/nomad/agent.lock)"
    pair.north.host.shell(f"kill -STOP {agent}")
    try:
        pair.wait_for_standing(pair.north, "troubled")
        assert "its node agent hangs" in pair.shown(pair.north)["reason"]
        meanwhile = Batch.submit(stack, folder / "meanwhile", 4, "true")
        meanwhile.wait_for("completed")
    finally:
        pair.north.host.shell(f"kill -CONT {agent}")
    assert {(row["attempt"], row["node"]) for row in meanwhile.rows()} == {(1, "south")}
    pair.wait_for_standing(pair.north, "usable")
    batch.end(pair.north)
    check_ran_on_north_alone(batch)


def test_docker_is_killed_under_running_jobs(pair: Pair, stack: StackOfTest, folder: Path) -> None:
    """A restart of rootless Docker ends all containers."""
    batch = run_two_on_north(pair, stack, folder)
    pair.drain(pair.north)
    pair.north.host.shell("kill -KILL $(cat /run/user/2013/docker.pid)")
    wait_for(lambda: held(pair.north) == [], seconds=60, what="north has given both back")
    assert containers(pair.north) == []
    assert "main.sh" not in " ".join(pair.north.host.processes())
    told = stack.fetch(
        "SELECT outcome, message FROM attempts WHERE number = 1 AND job_id = ANY($1::uuid[])",
        batch.jobs,
    )
    ended = "the container was ended from outside (exit code 255)"
    assert [tuple(row) for row in told] == [("node_trouble", ended)] * 2
    batch.end(pair.south)
    batch.check_each_completed_once()
    assert {(row["attempt"], row["node"]) for row in batch.rows()} == {(2, "south")}
    assert batch.fetch() == [{"attempt-2": ""}] * 2
    pair.resume(pair.north)


def test_the_object_store_is_away_when_jobs_end(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    batch = run_two_on_north(pair, stack, folder)
    port = stack.secrets["ports"]["object_store"]
    rule = f"OUTPUT -p tcp --dport {port} -j REJECT --reject-with tcp-reset"
    north = pair.north.host
    north.shell(f"iptables -A {rule}")

    def refused() -> int:
        """Return how many connection attempts were refused."""
        counted = north.shell("iptables -nvxL OUTPUT | grep 'reject-with tcp-reset'").stdout
        return int(counted.split()[0])

    batch.open(pair.north)
    wait_for(lambda: phases(pair.north) == ["decided"] * 2, seconds=30, what="both want to upload")
    wait_for(lambda: refused() >= 6, seconds=30, what="it was tried again and again")
    assert batch.states() == {"running": 2}
    north.shell(f"iptables -D {rule}")
    batch.wait_for("completed")
    check_ran_on_north_alone(batch)


def run_twenty_on_south(pair: Pair, stack: StackOfTest, folder: Path) -> Batch:
    """Start twenty jobs on south, with north free for them."""
    with pair.drained(pair.north):
        batch = Batch.submit(stack, folder, 20, GATED)
        batch.wait_for("running", seconds=90)
    assert len(batch.running_on(pair.south)) == 20
    return batch


def wait_until_abandoned(batch: Batch, stack: StackOfTest) -> None:
    """Wait until all are abandoned, and check the reason that a person sees for each."""
    wait_for(
        lambda: all(row["attempt"] == 2 or row["state"] == "received" for row in batch.rows()),
        seconds=60,
        what="south's jobs are abandoned",
    )
    told = stack.fetch(
        "SELECT message FROM attempts WHERE number = 1 AND job_id = ANY($1::uuid[])", batch.jobs
    )
    assert [row["message"] for row in told] == ["its node does not answer"] * batch.count


def check_run_again_on_north(batch: Batch) -> None:
    """Check that each completed in its second attempt, and its bucket holds only that output."""
    batch.check_each_completed_once()
    assert {(row["attempt"], row["node"]) for row in batch.rows()} == {(2, "north")}
    assert batch.fetch() == [{"attempt-2": ""}] * batch.count


def test_a_node_that_is_powered_off_with_twenty_jobs_on_it(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    batch = run_twenty_on_south(pair, stack, folder)
    pair.south.host.power_off()
    wait_until_abandoned(batch, stack)
    batch.end(pair.north)
    check_run_again_on_north(batch)
    pair.south.host.start()
    # The state at the power cut is restored.
    assert len(held(pair.south)) == 20
    before = pair.south.said()
    pair.south.start()
    pair.south.wait_until_ready()
    log = pair.south.said().removeprefix(before)
    assert log.count("abandoned by the service; ending it") == 20
    assert log.rindex("abandoned by the service") < log.index("Nomad started")
    assert (held(pair.south), containers(pair.south)) == ([], [])
    check_run_again_on_north(batch)
    with pair.drained(pair.north):
        after = Batch.submit(stack, folder / "after", 2, "true")
        after.wait_for("completed")
    assert {row["node"] for row in after.rows()} == {"south"}


def test_a_network_that_is_cut_during_an_upload(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    """H7: the successor's objects stay as they are, also when the network is back."""
    many = 'rm gate; for i in $(seq 4000); do echo "$NOMAD_META_attempt" >"f$i"; done'
    with pair.drained(pair.north):
        batch = Batch.submit(stack, folder, 1, GATED.replace("rm gate", many))
        batch.wait_for("running")
    [bucket] = [(case / "leruli.bucket").read_text().strip() for case in batch.cases]
    batch.open(pair.south)
    wait_for(lambda: len(etags(stack, bucket)) > 50, seconds=60, what="south uploads")
    pair.south.host.cut_network()
    try:
        assert len(etags(stack, bucket)) < 4000
        wait_until_abandoned(batch, stack)
        batch.end(pair.north, seconds=180)
        before = etags(stack, bucket)
    finally:
        pair.south.host.mend_network()
    wait_for(lambda: held(pair.south) == [], seconds=60, what="south has dropped it")
    assert etags(stack, bucket) == before
    batch.check_each_completed_once()
    [results] = batch.fetch()
    assert {results[f"f{number}"] for number in range(1, 4001)} == {"2\n"}
    pair.south.wait_until_ready()


def etags(stack: StackOfTest, bucket: str) -> dict[str, str]:
    """Return names and checksums of a bucket's objects."""
    store = Minio(
        stack.user["LERULI_S3_SERVER"].removeprefix("http://"),
        access_key=stack.user["LERULI_S3_ACCESS"],
        secret_key=stack.user["LERULI_S3_SECRET"],
        secure=False,
    )
    return {str(o.object_name): str(o.etag) for o in store.list_objects(bucket, recursive=True)}


def test_a_network_that_is_cut_for_longer_than_the_silence(
    pair: Pair, stack: StackOfTest, folder: Path
) -> None:
    batch = run_twenty_on_south(pair, stack, folder)
    pair.south.host.cut_network()
    wait_until_abandoned(batch, stack)
    # Cut off, it goes on with all of them.
    assert len(containers(pair.south)) == 20
    batch.end(pair.north)
    check_run_again_on_north(batch)
    # Half of them end before the network is back. Their results are not needed any more.
    ended = batch.jobs[:10]
    batch.open(pair.south, ended)
    wait_for(
        lambda: phases(pair.south).count("decided") == 10, seconds=30, what="ten wait for leave"
    )
    pair.south.host.mend_network()
    wait_for(lambda: held(pair.south) == [], seconds=60, what="south has dropped all")
    assert containers(pair.south) == []
    check_run_again_on_north(batch)
    pair.south.wait_until_ready()
