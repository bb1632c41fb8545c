from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from uuid import uuid4

from e2e_world import GATED, StackOfTest, wait_for
from service_world import signing_request

from leruli_queue.embedded.plain_http import answers


def test_the_dispatcher_is_killed_again_and_again_and_every_job_runs_once(
    stack: StackOfTest, tmp_path: Path
) -> None:
    folders = [tmp_path / f"job-{n}" for n in range(12)]
    for folder in folders:
        folder.mkdir()
    words = ("--batch", "job-*", "leruli-test", "1", "echo ran >> runs")
    submitted = stack.leruli(tmp_path, "task-submit", *words)
    assert submitted.returncode == 0, submitted.stderr
    chance = random.Random(20261123)  # noqa: S311
    for _ in range(4):
        time.sleep(chance.uniform(0.5, 2.5))
        before = stack.pid_of("dispatcher")
        stack.kill("dispatcher")
        wait_for(
            lambda before=before: stack.pid_of("dispatcher") != before,  # type: ignore[misc]
            seconds=10,
            what="the dispatcher is started again",
        )
    for folder in folders:
        assert stack.end(folder) == ("completed", None)
    fetched = stack.leruli(tmp_path, "task-get", "--batch", "job-*")
    assert fetched.returncode == 0, fetched.stderr
    job_ids = []
    for folder in folders:
        assert (folder / "runs").read_text() == "ran\n"
        job_ids.append((folder / "leruli.job").read_text().strip())
    attempts = stack.fetch(
        "SELECT job_id, started_at, message FROM attempts WHERE job_id = ANY($1::uuid[])", job_ids
    )
    started = [str(row["job_id"]) for row in attempts if row["started_at"] is not None]
    assert sorted(started) == sorted(job_ids)
    # A slot may have run a job that waited in Nomad.
    unstarted = {row["message"] for row in attempts if row["started_at"] is None}
    assert unstarted <= {"a slot runs the job instead"}


SLOW_COMMIT = """
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
CREATE TRIGGER slow_commit BEFORE UPDATE OF nomad_job_id ON attempts
FOR EACH ROW EXECUTE FUNCTION slow_commit();
"""
QUICK_COMMIT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep';
DROP FUNCTION slow_commit CASCADE;
"""


def test_the_dispatcher_is_killed_between_dispatch_and_commit(
    stack: StackOfTest, folder: Path
) -> None:
    def children() -> list[str]:
        job_id = (folder / "leruli.job").read_text().strip()
        found = stack.nomad("/v1/jobs?namespace=leruli&prefix=leruli-")
        return [job["ID"] for job in found if job_id.replace("-", "") in job["ID"]]

    stack.execute(SLOW_COMMIT)
    try:
        stack.submit(folder, "echo ran >> runs")
        wait_for(lambda: bool(children()), seconds=20, what="Nomad has the job")
        [row] = stack.fetch("SELECT nomad_job_id FROM attempts ORDER BY claimed_at DESC LIMIT 1")
        assert row["nomad_job_id"] is None
        stack.kill("dispatcher")
    finally:
        stack.execute(QUICK_COMMIT)
    assert stack.end(folder) == ("completed", None)
    stack.get(folder)
    assert (folder / "runs").read_text() == "ran\n"
    assert len(children()) == 1


def test_a_receipt_is_held_back_while_the_service_is_down(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, "sleep 3; echo done")
    stack.wait_for_state(folder, "running")
    # Stopped, not killed: the stack would start it again at once.
    stack.kill("service", signal.SIGSTOP)
    try:
        receipts = stack.data / "node" / "receipts"
        time.sleep(15)
        job_id = (folder / "leruli.job").read_text().strip()
        held = [path for path in receipts.iterdir() if job_id.replace("-", "") in path.name]
        # The stage-out first asks for the upload lease, so either this call or the receipt waits.
        attempts = [path.name for path in (stack.data / "node" / "attempts").iterdir()]
        assert held or any(job_id.replace("-", "") in name for name in attempts)
    finally:
        stack.kill("service", signal.SIGCONT)
    assert stack.end(folder) == ("completed", None)
    stack.get(folder)
    assert (folder / "joblog.txt").read_text() == "done\n"


def test_a_second_start_of_an_attempt_is_refused(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, f"{GATED}; echo done")
    stack.wait_for_state(folder, "running")
    joined = stack.call(
        "node-join",
        computesecret=stack.secrets["compute_secret"],
        grouptoken=stack.secrets["group_token"],
        name="second",
        cores=1,
        memorymb=100,
        csr=signing_request(),
    ).json()
    attempt = {
        "nodetoken": joined["nodetoken"],
        "jobid": (folder / "leruli.job").read_text().strip(),
        "attempt": 1,
    }
    second = stack.call("attempt-start", startkey=uuid4().hex, **attempt)
    assert second.status_code == 409
    assert second.json()["detail"] == "This attempt was started before."
    assert stack.call("attempt-upload", **attempt).status_code == 409
    assert stack.call("attempt-end", outcome="ended", exitcode=1, **attempt).status_code == 409
    assert stack.call("node-leave", nodetoken=joined["nodetoken"]).json() == {"running": 0}
    assert stack.end_gated(folder) == ("completed", None)


def test_the_node_agent_is_killed_while_a_job_runs(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, f"echo ran >> runs; {GATED}; echo done")
    stack.wait_for_state(folder, "running")
    before = stack.pid_of("node")
    stack.kill("node")
    wait_for(lambda: stack.pid_of("node") != before, seconds=10, what="the agent is started again")
    assert stack.end_gated(folder) == ("completed", None)
    stack.get(folder)
    assert (folder / "runs").read_text() == "ran\n"
    assert (folder / "joblog.txt").read_text() == "done\n"


def test_every_other_part_is_killed_while_a_job_runs(stack: StackOfTest, folder: Path) -> None:
    stack.submit(folder, f"echo ran >> runs; {GATED}; echo done")
    stack.wait_for_state(folder, "running")
    before = stack.pids()
    killed = ("PostgreSQL", "object store", "Nomad server", "service")
    for part in killed:
        stack.kill(part)
    wait_for(
        lambda: (
            stack.pids().keys() == before.keys()
            and all(stack.pids()[part] != before[part] for part in killed)
        ),
        seconds=20,
        what="all parts run again",
    )
    ready = f"{stack.user['LERULI_BASEURL']}/readyz"
    wait_for(lambda: answers(ready), seconds=60, what="the service answers again")
    assert stack.end_gated(folder) == ("completed", None)
    stack.get(folder)
    assert (folder / "runs").read_text() == "ran\n"


def test_nomads_client_is_killed_while_it_ends_a_job(stack: StackOfTest, folder: Path) -> None:
    # On TERM the command needs 3 s to end.
    command = 'trap "touch told; sleep 3; echo done; exit 0" TERM; sleep 100 & wait'
    stack.submit(folder, command)
    stack.wait_for_state(folder, "running")
    job_id = (folder / "leruli.job").read_text().strip()
    agent = stack.pid_of("node")
    listed = subprocess.run(["pgrep", "-P", str(agent), "nomad"], capture_output=True, text=True)
    client = int(listed.stdout)
    assert stack.leruli(folder, "task-cancel").returncode == 0
    told = stack.data / "node" / "jobs" / f"{job_id}x1" / "rundir" / "told"
    wait_for(told.exists, seconds=20, what="the command was told to end")
    os.kill(client, signal.SIGSTOP)
    try:
        label = f"label=leruli.attempt={job_id}x1"
        containers = ["docker", "ps", "-q", "--filter", label]
        wait_for(
            lambda: subprocess.check_output(containers) == b"", seconds=20, what="its end is there"
        )
    finally:
        os.kill(client, signal.SIGKILL)
    # The next client finishes the end of the task.
    reason = "cancelled while it ran; output up to then was uploaded"
    assert stack.end(folder, seconds=60) == ("cancelled", reason)
    stack.get(folder)
    assert (folder / "joblog.txt").read_text() == "done\n"
