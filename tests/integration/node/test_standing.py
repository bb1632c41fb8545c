"""The agent's reaction when the service changes its standing or refuses it."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest
from fork_server import ForkServer
from node_fake_service import FakeService
from node_rig import Rig, wait_for
from node_store import Store
from objects_world import running_objects

from leruli_node.container.docker_answers import missing_limits


def held(rig: Rig) -> list[dict[str, object]]:
    """Return the attempts in the latest report."""
    with rig.service.lock:
        reports = [body for name, body in rig.service.calls if name == "node-report"]
    return list(reports[-1]["attempts"]) if reports else []


def test_what_the_agent_reports(rig: Rig) -> None:
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    job = rig.job("sleep 30")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    wait_for(lambda: held(rig), what="a report of the attempt")
    assert held(rig) == [{"jobid": job.job, "attempt": 1}]
    body = [body for name, body in rig.service.calls if name == "node-report"][-1]
    assert body["images"] == ["plain:1"]
    assert 0 < body["diskfreemb"] <= body["disktotalmb"]
    assert body["trouble"] is None
    # D14: the group's admin sees the limits that this Docker does not enforce.
    assert body["unenforced"] == missing_limits(rig.docker.info())
    container.kill()
    assert rig.stage_out(job) == 0
    wait_for(lambda: not held(rig), what="a report without it")


def test_an_agent_whose_secret_was_rotated_ends_once_its_jobs_are_over(rig: Rig) -> None:
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    job = rig.job("sleep 3; echo done")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    rig.service.standing = ("outdated", "it joined with a secret that was rotated")
    time.sleep(1)
    assert rig.process is not None
    assert rig.process.poll() is None
    container.wait(timeout=30)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"
    assert rig.store.get(job.bucket, "joblog.txt") == b"done\n"
    assert rig.process.wait(30) == 77
    assert "it joined with a secret that was rotated" in rig.log.splitlines()[-1]


def test_attempts_of_another_node_are_ended_before_nomad_starts(rig: Rig) -> None:
    job = rig.job("echo stale; sleep 60")
    assert rig.stage_in(job) == 0
    rig.run_container(job)
    wait_for(rig.runs, what="the job runs")
    rig.kill()
    # As after a power failure or a cut network: the job runs elsewhere by now.
    rig.service.stale.add(job.key)
    rig.settings["LERULI_NODE_NOMAD"] = str(rig.folder / "nomad-notes-containers")
    seen = rig.folder / "containers-when-nomad-started"
    (rig.folder / "nomad-notes-containers").write_text(
        "#!/bin/sh\n"
        '[ "$1" = version ] && exit 0\n'
        f"docker ps -q --filter label=leruli.node={rig.service.nodeid} >{seen}.part\n"
        f"mv {seen}.part {seen}\nexec sleep 3336\n"
    )
    (rig.folder / "nomad-notes-containers").chmod(0o755)
    rig.start()
    wait_for(seen.exists, what="Nomad's start")
    assert seen.read_text() == ""
    assert rig.is_clean(job)
    assert rig.stage_out(job) == 0
    assert rig.service.receipts.get(job.key) is None
    assert rig.store.names(job.bucket) == {"run.tgz"}


def test_an_abandoned_running_attempt_is_ended_and_not_uploaded(rig: Rig) -> None:
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    job, other = rig.job("sleep 60"), rig.job("sleep 2; echo fine")
    for one in (job, other):
        assert rig.stage_in(one) == 0
    rig.run_container(job)
    container = rig.run_container(other)
    rig.service.stale.add(job.key)
    wait_for(lambda: rig.is_clean(job), what="its end")
    assert rig.store.names(job.bucket) == {"run.tgz"}
    container.wait(timeout=30)
    assert rig.stage_out(other) == 0
    assert rig.receipt(other)["outcome"] == "ended"


def test_the_agent_waits_for_a_service_that_is_away(rig: Rig) -> None:
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    rig.service.down = True
    time.sleep(1)
    rig.service.down = False
    before = rig.service.count("node-report")
    wait_for(lambda: rig.service.count("node-report") > before + 1, what="reports go on")


def test_the_certificate_is_renewed_after_a_third_of_its_life(rig: Rig) -> None:
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.service.certificate_seconds = 3.0
    reports = rig.service.count("node-report")
    rig.start()
    wait_for(lambda: rig.service.count("node-report") > reports, what="a report after the join")
    tls = rig.node_dir / "tls"
    first, key = (tls / "node.pem").read_text(), (tls / "node-key.pem").read_text()
    wait_for(lambda: (tls / "node.pem").read_text() != first, what="the next certificate")
    assert (tls / "node-key.pem").read_text() == key
    assert (tls / "node-key.pem").stat().st_mode & 0o777 == 0o600
    for name, body in rig.service.calls:
        assert "PRIVATE" not in str(body), name


def last_report(rig: Rig) -> dict[str, object]:
    with rig.service.lock:
        reports = [body for name, body in rig.service.calls if name == "node-report"]
    return reports[-1] if reports else {}


def test_a_node_whose_key_the_store_refuses_takes_no_jobs(
    tmp_path: Path, plain_archive: bytes, agents: ForkServer
) -> None:
    """D1: at its start, and after a change of the key. With a good key it takes jobs again."""
    with running_objects(tmp_path / "store") as server:
        token = "lqg-" + uuid.uuid4().hex[:26]
        store = Store.of(server)
        store.client.make_bucket(f"code-{token}")
        rig = Rig(tmp_path, store, FakeService(), token, agents)
        rig.publish("plain", "1", plain_archive)
        job, later = rig.job("true"), rig.job("true")
        right = server.key["LERULI_OBJECTS_SECRET"]
        try:
            rig.settings["LERULI_S3_SECRET"] = "x" * 40
            rig.start()
            sentence = (
                "the group's object store does not take its S3 key (SignatureDoesNotMatch): check "
                "LERULI_S3_ACCESS and LERULI_S3_SECRET in its node.env"
            )
            wait_for(lambda: last_report(rig), what="the first report")
            assert last_report(rig)["trouble"] == sentence
            assert rig.stage_in(job) == 3
            assert rig.service.count("attempt-start") == 0
            # The store's key becomes this node's.
            server.kill()
            server.key["LERULI_OBJECTS_SECRET"] = "x" * 40
            server.start()
            wait_for(lambda: last_report(rig)["trouble"] is None, what="it takes jobs")
            assert rig.stage_in(job) == 0
            # The key changes again, and the agent does not know it yet.
            server.kill()
            server.key["LERULI_OBJECTS_SECRET"] = right
            server.start()
            assert rig.stage_in(later) == 4
            assert rig.stage_out(later) == 0
            receipt = rig.receipt(later)
            assert receipt["outcome"] == "node_trouble"
            assert receipt["message"] == sentence
            wait_for(lambda: last_report(rig)["trouble"] == sentence, what="a report of it")
        finally:
            rig.close()


@pytest.mark.parametrize("page", [b"<html>maintenance</html>", b'{"detail": "blocked"}'])
def test_a_refusal_of_a_proxy_is_not_the_services(rig: Rig, page: bytes) -> None:
    """M2: the agent waits while a proxy answers 403, with running jobs and without."""
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.start()
    job = rig.job("true")
    rig.service.proxy = (403, page)
    staging = rig.stage("in", job)
    wait_for(lambda: "not the service's" in rig.log, what="the page was seen")
    time.sleep(1)
    assert rig.process is not None
    assert rig.process.poll() is None
    assert staging.poll() is None
    rig.service.proxy = None
    assert staging.wait(60) == 0


def test_a_refusal_is_believed_when_it_is_repeated(rig: Rig) -> None:
    """M2: a refusal of the service itself, for LERULI_NODE_REFUSED_SECONDS."""
    rig.kill()
    rig.service.report_seconds = 0.2
    rig.settings["LERULI_NODE_REFUSED_SECONDS"] = "3"
    before = rig.service.count("node-report")
    rig.start()
    wait_for(lambda: rig.service.count("node-report") > before, what="a report after the join")
    with rig.service.lock:
        tokens, rig.service.tokens = rig.service.tokens, []
    wait_for(lambda: "the service refuses this node" in rig.log, what="a refusal")
    with rig.service.lock:
        rig.service.tokens = tokens
    time.sleep(3.5)
    assert rig.process is not None
    assert rig.process.poll() is None
    rig.service.tokens = []
    assert rig.process.wait(30) == 77
    assert "the node token is not valid" in rig.log.splitlines()[-1]


def test_a_copy_of_a_machine_joins_as_a_new_node(rig: Rig) -> None:
    """M10: with node.json, attempts and Nomad's state of the original machine."""
    facts = rig.node_dir / "node.json"
    original, job = json.loads(facts.read_bytes()), rig.job("true")
    assert rig.stage_in(job) == 0
    rig.kill()
    facts.write_text(json.dumps(original | {"machine": "another-machine's", "cards": []}))
    rig.service.nodeid = str(uuid.uuid4())
    rig.start()
    wait_for(
        lambda: json.loads(facts.read_bytes())["nodeid"] == rig.service.nodeid, what="a new id"
    )
    joins = [body for name, body in rig.service.calls if name == "node-join"]
    assert joins[-1]["nodeid"] is None
    assert json.loads(facts.read_bytes())["machine"] == original["machine"]
    wait_for(lambda: last_report(rig).get("attempts") == [], what="nothing of the original's")
    # Started again, on the same machine: the same node.
    rig.kill()
    before = rig.service.count("node-join")
    rig.start()
    wait_for(lambda: rig.service.count("node-join") > before, what="it joins again")
    joins = [body for name, body in rig.service.calls if name == "node-join"]
    assert joins[-1]["nodeid"] == rig.service.nodeid
