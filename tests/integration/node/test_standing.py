"""What the agent does when the service says that it may not go on as it was."""

from __future__ import annotations

import time

from node_rig import Rig, wait_for


def held(rig: Rig) -> list[dict[str, object]]:
    """The attempts in the latest report."""
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


def test_what_was_given_to_another_node_is_ended_before_nomad_starts(rig: Rig) -> None:
    job = rig.job("echo stale; sleep 60")
    assert rig.stage_in(job) == 0
    rig.run_container(job)
    wait_for(rig.runs, what="the job runs")
    rig.kill()
    # As after a power failure or a cut: the job runs elsewhere by now.
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


def test_what_is_given_up_while_it_runs_is_ended_and_not_uploaded(rig: Rig) -> None:
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


def test_the_service_away_is_waited_out(rig: Rig) -> None:
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
