"""A disk that is full while a further attempt of a slot runs."""

from __future__ import annotations

import subprocess

import pytest
from node_rig import Rig, wait_for


@pytest.mark.parametrize("shares", [False, True], ids=["fresh", "shared"])
def test_a_full_disk_keeps_what_a_further_attempt_wrote(rig: Rig, shares: bool) -> None:
    """What runs has the ballast, as any attempt. The slot then waits, or is over."""
    rig.kill()
    rig.node_dir.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "x", str(rig.node_dir)], check=True)
    try:
        rig.start()
        filling = rig.job(
            "echo precious >result.txt; cat /dev/zero >fill; sleep 2; exit 0",
            share_container=shares,
        )
        after = rig.job("echo after", share_container=shares)
        rig.service.backlog += [filling.key, after.key]
        first = rig.job("echo first", goes_on=True)
        assert rig.stage_in(first) == 0
        rig.run_container(first).wait(timeout=60)
        asked = rig.stage("out", first)
        receipts = rig.service.receipts
        wait_for(lambda: filling.key in receipts, 120, "a receipt")
        assert receipts[filling.key]["outcome"] == "ended"
        assert rig.store.get(filling.bucket, "result.txt") == b"precious\n"
        assert asked.wait(60) == 0
        outcomes = [body["outcome"] for key, body in receipts.items() if key[0] == after.job]
        handed_back = {job for job, _ in rig.service.backlog}
        # A full disk is the node's fault: the next job runs, waits, or is run again.
        assert after.job in handed_back or outcomes in (["ended"], ["node_trouble"])
        wait_for(lambda: not rig.containers(), 20, "no container is left")
        wait_for(lambda: rig.is_clean(filling), 20, "the job's folder is gone")
    finally:
        rig.kill()
        # The agent's Nomad ends a moment after the agent.
        unmount = ["umount", str(rig.node_dir)]
        wait_for(lambda: subprocess.run(unmount).returncode == 0, 10, "the disk is free")
