"""The real Nomad: the client of the agent and its jobs."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from pathlib import Path

from node_nomad import POOL, Server, dispatch, ready, register, stop
from node_rig import Rig, wait_for


def test_client_runs_jobs_under_the_id_that_the_service_gave(
    server: Server, nomad_rig: Rig
) -> None:
    rig = nomad_rig
    node = ready(server, rig)
    assert node["ID"] == rig.service.nodeid == node["Name"]
    assert node["NodePool"] == POOL
    assert node["Meta"]["leruli_jobs"] == str(rig.node_dir / "jobs")
    assert node["NodeResources"]["Cpu"]["CpuShares"] == (os.cpu_count() or 1) * 1000
    for path in (rig.node_dir / "nomad.json", rig.node_dir / "nomad/client/intro_token.jwt"):
        assert path.stat().st_mode & 0o777 == 0o600
    register(server, rig)
    good, bad, long = rig.job("echo hi >o"), rig.job("exit 3"), rig.job("sleep 60", timelimit=2)
    for job in (good, bad, long):
        dispatch(server, job)
    outcomes = {}
    for job in (good, bad, long):
        receipt = wait_for(lambda job=job: rig.service.receipts.get(job.key), 60, "a receipt")
        outcomes[job.key] = (receipt["outcome"], receipt["exitcode"])
    assert outcomes[good.key] == ("ended", 0)
    assert outcomes[bad.key] == ("ended", 3)
    assert outcomes[long.key][0] == "time_limit"
    assert rig.store.get(good.bucket, "o") == b"hi\n"
    assert all(rig.is_clean(job) for job in (good, bad, long))


def test_a_stopped_job_is_staged_out_as_stopped(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job("echo begun; sleep 100")
    child = dispatch(server, job)
    wait_for(rig.runs, 40, "a container")
    time.sleep(1)
    stop(server, child)
    assert wait_for(lambda: rig.service.receipts.get(job.key), 40)["outcome"] == "stopped"
    assert rig.store.get(job.bucket, "joblog.txt") == b"begun\n"


def test_running_jobs_outlive_an_agent_that_is_killed(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job("sleep 8; echo survived")
    dispatch(server, job)
    wait_for(rig.runs, 40, "a container")
    rig.kill()
    time.sleep(1)
    rig.start()
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "joblog.txt") == b"survived\n"


def test_nothing_is_left_after_term(server: Server, nomad_rig: Rig) -> None:
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job("sleep 100")
    dispatch(server, job)
    wait_for(rig.runs, 40, "a container")
    rig.settings["LERULI_NODE_DRAIN_SECONDS"] = "1"
    assert rig.stop() == 0
    assert rig.containers() == []
    mine = str(rig.node_dir)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert mine not in entry.read_text(), entry
        except (FileNotFoundError, ProcessLookupError):
            continue


def shown_certificate(server: Server, rig: Rig) -> bytes:
    """Return the certificate that Nomad's client shows to a new connection."""
    port = json.loads((rig.node_dir / "node.json").read_text())["nomad_port"]
    context = ssl.create_default_context(cafile=server.tls.ca)
    context.load_cert_chain(server.tls.broker, server.tls.broker_key)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def test_nomad_reads_a_renewed_certificate_and_running_jobs_go_on(
    server: Server, nomad_rig: Rig
) -> None:
    rig = nomad_rig
    rig.stop()
    rig.service.report_seconds = 0.5
    rig.service.certificate_seconds = 30.0
    rig.start()
    ready(server, rig)
    register(server, rig)
    first = shown_certificate(server, rig)
    job = rig.job("sleep 14; echo survived")
    dispatch(server, job)
    wait_for(rig.runs, 40, "a container")
    nomads = rig.log.count("Nomad started")
    wait_for(lambda: shown_certificate(server, rig) != first, 25, "another certificate")
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "joblog.txt") == b"survived\n"
    assert rig.log.count("Nomad started") == nomads
    assert server.node(rig.service.nodeid)["Status"] == "ready"


def test_a_job_reaches_no_socket_of_nomad(server: Server, nomad_rig: Rig) -> None:
    """M16: Nomad serves an API without limits on a socket in each task's /secrets.

    A job's files in place of Nomad's folders are in its own folder, and are removed with it.
    """
    rig = nomad_rig
    ready(server, rig)
    register(server, rig)
    job = rig.job(
        "find / -path /proc -prune -o -type s -print 2>/dev/null; sleep 4; "
        "for f in /alloc /local /secrets; do ls -A $f; touch $f/mine; done"
    )
    dispatch(server, job)
    wait_for(rig.runs, 40, "a container")
    [container] = rig.containers()
    own = str(rig.node_dir / "jobs" / job.name)
    mounts = {one["Destination"]: one["Source"] for one in container.attrs["Mounts"]}
    assert set(mounts) == {"/alloc", "/local", "/secrets", "/rundir", "/leruli"}
    assert all(source.startswith(f"{own}/") for source in mounts.values()), mounts
    receipt = wait_for(lambda: rig.service.receipts.get(job.key), 60, "a receipt")
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "joblog.txt") == b""
    assert not list((rig.node_dir / "nomad").rglob("mine"))
    assert rig.is_clean(job)
