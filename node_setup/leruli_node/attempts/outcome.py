"""How an attempt ended: one pure function, one table.

| first that holds | outcome |
|---|---|
| stage-in met a problem | as it noted |
| no container, and main.sh noted no end | node_trouble |
| main.sh refused a second start, and no end of the first one is noted | node_trouble |
| the container never started | node_trouble |
| the machine was restarted while the job ran | node_trouble |
| the time limit was noted and reached | time_limit |
| use of more disk than the limit was noted | out_of_disk |
| the kernel killed for memory of the machine, not of the job | node_trouble |
| the kernel killed for memory | out_of_memory |
| TERM from outside (drain, cancel, shutdown of the node) | stopped |
| code 137 or 255 and main.sh noted no end of its own | node_trouble |
| another code than 0, and the disk was full, not by this job | node_trouble |
| otherwise | ended, with the exit code: Docker's, or main.sh's note where Docker says 137 or 255 |
"""

from __future__ import annotations

from dataclasses import replace

from leruli_node.container.script_notes import ScriptNotes
from leruli_node.model import AttemptState, ContainerFacts, Decision, StartGrant

REFUSED_CODE = 122
# What Docker reports for containers that were killed, or that ended while dockerd was away.
_OUTSIDE_CODES = (137, 255)
# Use of memory (of the limit) below which the limit is not why a job was ended.
_FAR_BELOW = 0.75


def decide(
    state: AttemptState,
    container: ContainerFacts | None,
    notes: ScriptNotes,
    boot_id: str,
    killed_from_outside: bool = False,
    wall_offset: float | None = None,
) -> Decision:
    """How the attempt ended.

    `notes` are main.sh's notes, which the user's program could have forged: they can only spoil
    its own result. `killed_from_outside` is Docker's word that somebody sent a signal.
    `wall_offset` is what the wall clock shows more than the clock of limits (clock.py), so that
    Docker's times can be told in the latter.
    """
    if state.problem_outcome is not None:
        return Decision(state.problem_outcome, message=state.problem_message)
    if container is None and notes.exit_code is not None:
        # Somebody removed it (`docker system prune`), which Docker does not do while it runs.
        container = ContainerFacts(notes.exit_code, started_at=state.started_at or 0.0)
    if state.grant is None or container is None:
        return Decision("node_trouble", message="the node did not start the container")
    if notes.refused and container.exit_code == REFUSED_CODE:
        if notes.exit_code is None:
            return Decision("node_trouble", message="the node tried to start the container twice")
        # The first run counts; of its end main.sh's note is all that is known. A short one may have
        # been over before its start was seen.
        container = replace(
            container,
            exit_code=notes.exit_code,
            started_at=state.started_at or container.started_at,
            finished_at=None,
        )
    elif (
        container.exit_code in _OUTSIDE_CODES
        and notes.exit_code is not None
        and not container.oom_killed
    ):
        # dockerd was away when it ended; the job itself had ended in order.
        container = replace(container, exit_code=notes.exit_code)
    if container.started_at is None:
        why = f": {' '.join(container.error.split())[:200]}" if container.error else ""
        return Decision("node_trouble", message=f"the container could not be started{why}")
    wall = _ran_for(state, container, wall_offset if state.boot_id == boot_id else None)
    outcome, message = _how(state, state.grant, container, notes, killed_from_outside, wall)
    if state.boot_id != boot_id and notes.exit_code is None:
        outcome, message = "node_trouble", "the machine was restarted while the job ran"
    return Decision(
        outcome,
        exitcode=container.exit_code,
        message=message,
        wallseconds=wall,
        cpuseconds=_cpu_seconds(state, notes, wall),
        peakmemorymb=_peak_memory_mb(state, notes),
    )


def _how(
    state: AttemptState,
    grant: StartGrant,
    container: ContainerFacts,
    notes: ScriptNotes,
    killed_from_outside: bool,
    wall: float | None,
) -> tuple[str, str | None]:
    signalled = notes.terminated or killed_from_outside
    # A job may end by itself between the note and the signal.
    if state.time_limit_at is not None and (signalled or wall is None or wall >= grant.timelimit):
        limit = f"{grant.timelimit:g}"
        return "time_limit", f"time limit of {limit} s reached; output up to then was uploaded"
    if state.disk_over_at is not None and (signalled or wall is None or container.exit_code != 0):
        return "out_of_disk", f"used more than {grant.diskmb} MB of disk"
    if container.oom_killed:
        return _out_of_memory(state, grant)
    if signalled or state.stopped_at is not None:
        return "stopped", "the job was stopped before it had ended"
    code = container.exit_code
    if code in _OUTSIDE_CODES and notes.exit_code is None:
        return "node_trouble", f"the container was ended from outside (exit code {code})"
    if code != 0 and state.disk_full and grant.diskmb:
        # Whoever filled it, this job did not use more than it may.
        return "node_trouble", f"the node's disk was full; the job ended with exit code {code}"
    return "ended", None


def _out_of_memory(state: AttemptState, grant: StartGrant) -> tuple[str, str]:
    # With cgroup v2 Docker says so as well when the kernel ended it for the whole machine.
    peak = state.peak_memory_mb or 0
    if state.machine_full and peak < grant.memorymb * _FAR_BELOW:
        return (
            "node_trouble",
            f"the machine itself ran out of memory; the job used {peak} of its "
            f"{grant.memorymb} MB when it was ended",
        )
    return "out_of_memory", f"killed: used more than {grant.memorymb} MB"


def _ran_for(
    state: AttemptState, container: ContainerFacts, wall_offset: float | None
) -> float | None:
    """How long the container ran, in seconds; None when its end is not known."""
    if container.started_at is None or container.finished_at is None:
        return None
    if state.started_boottime is None or wall_offset is None:
        return max(0.0, container.finished_at - container.started_at)
    return max(0.0, container.finished_at - wall_offset - state.started_boottime)


def _cpu_seconds(state: AttemptState, notes: ScriptNotes, wall: float | None) -> float | None:
    # Docker's samples are sure but miss the end; main.sh's note is whole but can be forged, so it
    # is only believed where it is possible.
    sampled, noted = state.cpu_seconds, notes.cpu_seconds
    possible = wall is not None and state.grant is not None and noted is not None
    if possible and noted is not None and wall is not None and noted <= wall * 1024 + 1:
        sampled = max(noted, sampled or 0.0)
    return None if sampled is None else round(sampled, 2)


def _peak_memory_mb(state: AttemptState, notes: ScriptNotes) -> int | None:
    # As with CPU time: a short job ends before a sample, and main.sh's note is only believed where
    # it is possible, in the job's limit.
    sampled, noted = state.peak_memory_mb, notes.peak_memory_mb
    if state.grant is not None and noted is not None and 0 < noted <= state.grant.memorymb:
        return max(noted, sampled or 0)
    return sampled
