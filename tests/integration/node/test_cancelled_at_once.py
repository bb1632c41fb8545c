"""A cancellation reaches a running command by the waiting report; the service is a FAKE."""

from __future__ import annotations

import time

from node_rig import Rig, wait_for

# Far longer than the tests wait: only a report that waits at the service tells the agent.
PERIOD_S = 60.0
SOON_S = 3.0

# Counts the TERMs that it gets, and takes a second to end.
COUNTS_TERMS = "trap 'echo term >>terms; sleep 1; exit 3' TERM; while :; do sleep 0.1; done"


def listen(rig: Rig) -> None:
    """Start the agent again, at a service that lets its reports wait."""
    rig.stop()
    rig.service.holds_reports = True
    rig.service.report_seconds = PERIOD_S
    rig.start()


def test_a_running_command_of_a_first_attempt_is_ended_at_once(rig: Rig) -> None:
    listen(rig)
    job = rig.job(COUNTS_TERMS)
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    wait_for(rig.runs)
    began = time.monotonic()
    rig.service.cancelled.add(job.key)
    # As Nomad does a moment later.
    time.sleep(0.4)
    container.kill("TERM")
    container.wait(timeout=SOON_S + 2)
    assert time.monotonic() - began < SOON_S + 1
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "stopped"
    assert rig.store.get(job.bucket, "terms") == b"term\n"


def test_the_agent_ends_within_moments_while_its_report_waits(rig: Rig) -> None:
    listen(rig)
    wait_for(lambda: rig.service.count("node-report") >= 2, what="a report that waits")
    began = time.monotonic()
    rig.stop()
    assert time.monotonic() - began < 5.0
