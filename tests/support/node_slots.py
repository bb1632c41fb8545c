"""Slots of the node agent's tests: the first attempt, and jobs that run after it."""

from __future__ import annotations

from typing import Any

from node_rig import Job, Rig


def shared_job(rig: Rig, command: str, **more: Any) -> Job:
    job = rig.job(command, share_container=True, **more)
    rig.service.backlog.append(job.key)
    return job


def begin(rig: Rig) -> Job:
    """The attempt that Nomad placed, with its container at its end."""
    first = rig.job("echo first", goes_on=True)
    assert rig.stage_in(first) == 0, rig.log[-3000:]
    rig.run_container(first).wait(timeout=60)
    return first
