"""Docker is killed around a further attempt: it is the test's own dockerd."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import node_rig
import pytest
from fork_server import ForkServer
from node_fake_service import FakeService
from node_rig import Job, Rig, wait_for
from node_store import Store
from own_docker import OwnDocker, own_docker
from slow_docker import SlowDocker


@pytest.fixture(scope="module")
def dockerd() -> Iterator[OwnDocker]:
    with own_docker() as made:
        yield made


@pytest.fixture
def rig(
    tmp_path: Path,
    node_store: Store,
    agents: ForkServer,
    plain_archive: bytes,
    dockerd: OwnDocker,
) -> Iterator[Rig]:
    """A node agent whose Docker the test may kill."""
    token = "lqg-" + uuid.uuid4().hex[:26]
    node_store.client.make_bucket(f"code-{token}")
    settings = {"LERULI_NODE_DOCKER_SOCKET": str(dockerd.socket)}
    made = node_rig.Rig(
        tmp_path, node_store, FakeService(), token, agents, settings, docker=dockerd.client()
    )
    made.publish("plain", "1", plain_archive)
    try:
        made.start()
        yield made
    finally:
        made.close()


def begin(rig: Rig, *jobs: Job) -> Any:
    """Begin a slot that runs these jobs next. Return the driver's question for stage-out."""
    rig.service.backlog += [job.key for job in jobs]
    first = rig.job("echo first", goes_on=True)
    assert rig.stage_in(first) == 0, rig.log[-3000:]
    rig.run_container(first).wait(timeout=60)
    return rig.stage("out", first)


def runs(rig: Rig, job: Job) -> bool:
    """Return whether the job's command runs, in a fresh or a shared container."""
    own = rig.node_dir / "jobs" / job.name / "rundir" / "begun"
    shared = (rig.node_dir / "jobs" / ".shared").glob("*/rundir/begun")
    return own.exists() or any(shared)


def outcome(rig: Rig, job: Job) -> str:
    """Return how a job ended, in the attempt that was not handed back."""

    def receipts() -> list[dict[str, Any]]:
        return [body for key, body in rig.service.receipts.items() if key[0] == job.job]

    [receipt] = wait_for(receipts, 60, "a receipt")
    return str(receipt["outcome"])


def wait_with_its_question(rig: Rig, job: Job) -> Any:
    """Run a job in a slot, which then waits for the next one. Return the driver's question."""
    asked = begin(rig, job)
    wait_for(lambda: runs(rig, job), 30, "the command runs")
    rig.service.lose_answers["slot-next"] = 10**6
    assert outcome(rig, job) == "ended"
    return asked


@pytest.mark.parametrize("shares", [False, True], ids=["fresh", "shared"])
def test_docker_is_killed_while_a_further_command_runs(
    rig: Rig, dockerd: OwnDocker, shares: bool
) -> None:
    """The command goes on until Docker is started again, which ends it."""
    lost = rig.job("touch begun; sleep 100", share_container=shares)
    waiting = rig.job("echo never", share_container=shares)
    asked = begin(rig, lost, waiting)
    wait_for(lambda: runs(rig, lost), 30, "the command runs")
    dockerd.kill()
    dockerd.start()
    # Docker sends TERM to a fresh container. Both outcomes are counted, and the job runs again.
    assert outcome(rig, lost) == ("node_trouble" if shares else "stopped")
    # The slot goes on if Docker answers when it looks. Otherwise it ends, and the job waits.
    assert asked.wait(60) == 0
    if waiting.key in rig.service.receipts:
        assert outcome(rig, waiting) == "ended"
    wait_for(lambda: not rig.containers(), 20, "no container is left")


@pytest.mark.parametrize("shares", [False, True], ids=["fresh", "shared"])
def test_a_further_command_ends_while_docker_is_away(
    rig: Rig, dockerd: OwnDocker, shares: bool
) -> None:
    through = rig.job("touch begun; sleep 4; echo through", share_container=shares)
    following = rig.job("echo following", share_container=shares)
    asked = begin(rig, through, following)
    wait_for(lambda: runs(rig, through), 30, "the command runs")
    dockerd.kill()
    time.sleep(6)
    dockerd.start()
    assert outcome(rig, through) == "ended"
    assert rig.store.get(through.bucket, "joblog.txt") == b"through\n"
    assert asked.wait(60) == 0
    assert outcome(rig, following) == "ended"
    wait_for(lambda: not rig.containers(), 20, "no container is left")


@pytest.mark.parametrize("shares", [False, True], ids=["fresh", "shared"])
def test_docker_is_away_when_a_slot_begins_an_attempt(
    rig: Rig, dockerd: OwnDocker, shares: bool
) -> None:
    """It waits for Docker, or is handed back: no attempt ends for it."""
    command = "touch begun; sleep 2; cat /etc/hostname"
    before, job, last = (rig.job(command, share_container=shares) for _ in range(3))
    asked = wait_with_its_question(rig, before)
    dockerd.kill()
    rig.service.backlog += [job.key, last.key]
    rig.service.lose_answers.clear()
    time.sleep(5)
    dockerd.start()
    assert asked.wait(90) == 0
    handed_back = {one for one, _ in rig.service.backlog}
    for one in (job, last):
        assert one.job in handed_back or outcome(rig, one) == "ended"
    # What a slot cannot remove is swept later.
    assert not rig.runs()


@pytest.fixture
def cutting(
    tmp_path: Path, node_store: Store, agents: ForkServer, plain_archive: bytes
) -> Iterator[tuple[Rig, SlowDocker]]:
    """A node agent and the machine's Docker, behind a socket that can cut single calls."""
    token = "lqg-" + uuid.uuid4().hex[:26]
    node_store.client.make_bucket(f"code-{token}")
    made = Rig(tmp_path, node_store, FakeService(), token, agents)
    made.publish("plain", "1", plain_archive)
    with SlowDocker(made.folder / "docker.sock") as docker:
        made.settings["LERULI_NODE_DOCKER_SOCKET"] = str(docker.path)
        try:
            made.start()
            yield made, docker
        finally:
            made.close()


@pytest.mark.parametrize("shares", [False, True], ids=["fresh", "shared"])
def test_an_attempt_whose_container_cannot_be_made_is_handed_back(
    cutting: tuple[Rig, SlowDocker], shares: bool
) -> None:
    """Docker goes away after stage-in."""
    rig, docker = cutting
    job, waiting = (rig.job("echo never", share_container=shares) for _ in range(2))
    docker.cut = b"/containers/create?name="
    asked = begin(rig, job, waiting)
    assert asked.wait(60) == 0
    assert job.key in rig.service.returned
    assert not [key for key in rig.service.receipts if key[0] in (job.job, waiting.job)]


def test_docker_goes_away_at_the_start_of_a_further_attempt(
    cutting: tuple[Rig, SlowDocker],
) -> None:
    """It is not known whether the command began, so the attempt is decided and not handed back."""
    rig, docker = cutting
    job, waiting = rig.job("echo never"), rig.job("echo never")
    docker.cut = b"/start"
    asked = begin(rig, job, waiting)
    assert asked.wait(60) == 0
    assert rig.service.receipts[job.key]["outcome"] == "node_trouble"
    assert job.key not in rig.service.returned
    assert waiting.key not in rig.service.receipts


def test_docker_is_started_again_between_two_jobs_of_a_shared_container(
    rig: Rig, dockerd: OwnDocker
) -> None:
    """The container is gone. The next job has another one."""
    command = "touch begun; sleep 2; cat /etc/hostname"
    before, after = (rig.job(command, share_container=True) for _ in range(2))
    asked = wait_with_its_question(rig, before)
    dockerd.kill()
    dockerd.start()
    rig.service.backlog.append(after.key)
    rig.service.lose_answers.clear()
    assert outcome(rig, after) == "ended"
    assert asked.wait(60) == 0
    hosts = [rig.store.get(job.bucket, "joblog.txt") for job in (before, after)]
    assert hosts[0] != hosts[1]
    wait_for(lambda: not rig.containers(), 20, "no container is left")
