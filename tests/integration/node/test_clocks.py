"""Clocks that are set while a job runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_rig import PACKAGE, Rig, wait_for

# A FAKE of `settimeofday`, which would set the clock of the whole machine: the agent reads its wall
# clock through this. Docker's and the kernel's clocks stay.
_SET_CLOCK = """
import pathlib, time
_true, _ahead = time.time, pathlib.Path({path!r})
time.time = lambda: _true() + (float(_ahead.read_text()) if _ahead.exists() else 0.0)
"""


@pytest.mark.parametrize("ahead", [86400, -86400])
def test_setting_the_clock_does_not_change_the_time_of_a_job(
    rig: Rig, tmp_path: Path, ahead: int
) -> None:
    """M7: an NTP step neither ends a job nor gives it more time."""
    site, clock = tmp_path / "site", tmp_path / "ahead"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SET_CLOCK.format(path=str(clock)))
    rig.settings["PYTHONPATH"] = f"{site}:{PACKAGE}"
    rig.kill()
    rig.start()
    good, long = rig.job("sleep 6; echo done", timelimit=40), rig.job("sleep 60", timelimit=8)
    containers = []
    for job in (good, long):
        assert rig.stage_in(job) == 0
        containers.append(rig.run_container(job))
    wait_for(lambda: all(rig.state(job)["started_at"] for job in (good, long)), what="both noted")
    clock.write_text(str(ahead))
    for container in containers:
        container.wait(timeout=30)
    outcomes = []
    for job in (good, long):
        assert rig.stage_out(job) == 0
        outcomes.append(rig.receipt(job)["outcome"])
    assert outcomes == ["ended", "time_limit"]
