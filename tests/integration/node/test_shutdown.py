"""The shutdown of the agent: jobs end or are requeued, and nothing is left."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from node_rig import Rig, wait_for


def test_term_requeues_running_jobs_and_leaves_nothing(rig: Rig) -> None:
    rig.kill()
    rig.settings["LERULI_NODE_DRAIN_SECONDS"] = "1"
    rig.start()
    job = rig.job("sleep 60")
    assert rig.stage_in(job) == 0
    rig.run_container(job)
    time.sleep(1)
    assert rig.stop() == 0
    assert rig.service.count("node-leave") == 1
    assert rig.receipt(job)["outcome"] == "stopped"
    assert rig.is_clean(job)
    assert list((rig.node_dir / "receipts").iterdir()) == []


def test_term_keeps_the_output_of_a_job_that_has_ended(rig: Rig) -> None:
    rig.kill()
    rig.settings["LERULI_NODE_DRAIN_SECONDS"] = "1"
    rig.start()
    job = rig.job("echo precious >result.txt")
    assert rig.stage_in(job) == 0
    # Within a second, so that the watcher has not recorded its start.
    rig.run_container(job).wait(timeout=20)
    assert rig.stop() == 0
    assert rig.containers() == []
    rig.start()
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"
    assert rig.store.get(job.bucket, "result.txt") == b"precious\n"


def test_term_waits_for_stage_out(rig: Rig) -> None:
    job = rig.job("sleep 3; echo done")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    assert rig.process
    rig.process.send_signal(signal.SIGTERM)
    container.wait(timeout=20)
    assert rig.stage_out(job) == 0
    assert rig.process.wait(20) == 0
    assert rig.receipt(job)["outcome"] == "ended"


def test_term_without_a_service_ends_in_bounded_time(rig: Rig) -> None:
    job = rig.job("sleep 60")
    assert rig.stage_in(job) == 0
    rig.run_container(job)
    rig.service.down = True
    started = time.monotonic()
    assert rig.stop() == 0
    assert time.monotonic() - started < 30
    assert rig.containers() == []
    # Its output is not lost: the next agent uploads it.
    assert rig.state(job)["phase"] == "decided"
    rig.service.down = False
    rig.start()
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "stopped"
    assert "joblog.txt" in rig.store.names(job.bucket)


# The agent asks Nomad for its version at its start.
NOT_A_VERSION = '#!/bin/sh\n[ "$1" = version ] && exit 0\n'


def test_processes_that_nomad_leaves_are_ended(rig: Rig) -> None:
    """A stand-in for Nomad leaves a process in its own session, like Nomad's executors."""
    rig.kill()
    stand_in = rig.folder / "nomad-with-executor"
    pid_file = rig.folder / "executor.pid"
    stand_in.write_text(
        f"{NOT_A_VERSION}setsid sleep 3333 &\necho $! >{pid_file}\nexec sleep 3334\n"
    )
    stand_in.chmod(0o755)
    rig.settings["LERULI_NODE_NOMAD"] = str(stand_in)
    rig.start()
    wait_for(lambda: pid_file.exists() and pid_file.read_text().strip(), what="the executor")
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}").exists()
    assert rig.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


def test_nomad_gets_no_secret_and_ends_with_the_agent(rig: Rig) -> None:
    rig.kill()
    stand_in = rig.folder / "nomad-spy"
    seen = rig.folder / "environment"
    stand_in.write_text(f"{NOT_A_VERSION}env >{seen}; echo $$ >{seen}.pid\nexec sleep 3335\n")
    stand_in.chmod(0o755)
    rig.settings["LERULI_NODE_NOMAD"] = str(stand_in)
    rig.start()
    wait_for(lambda: Path(f"{seen}.pid").exists() and Path(f"{seen}.pid").read_text(), what="spy")
    text = seen.read_text()
    assert "LERULI" not in text
    assert rig.store.secret not in text
    pid = int(Path(f"{seen}.pid").read_text())
    rig.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 5, "Nomad's end")
