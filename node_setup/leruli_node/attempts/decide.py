"""Decides how an attempt ended: one pure function, one table.

| first condition that holds | outcome |
|---|---|
| stage-in noted a problem | the noted one |
| there is no container, and main.sh noted no end | node_trouble |
| main.sh refused a second start, and noted no end of the first | node_trouble |
| the container never started | node_trouble |
| the machine was restarted while the job ran | node_trouble |
| the time limit was noted and reached | time_limit |
| more disk than the limit was noted | out_of_disk |
| the kernel killed because the machine, not the job, had no memory | node_trouble |
| the kernel killed because of memory | out_of_memory |
| TERM from outside (drain, cancel, shutdown of the node) | stopped |
| exit code 137 or 255, and main.sh noted no end | node_trouble |
| another exit code than 0, and the disk was full, but not by this job | node_trouble |
| otherwise | ended, with Docker's exit code, or main.sh's where Docker says 137 or 255 |
"""

from __future__ import annotations

from dataclasses import replace

from leruli_node.container.script_notes import ScriptNotes
from leruli_node.model import AttemptState, ContainerFacts, Decision, StartGrant
from leruli_node.outcomes import Outcome

REFUSED_CODE = 122
# Docker reports these codes for containers that were killed, or that ended while dockerd was away.
_OUTSIDE_CODES = (137, 255)
# Below this part of its memory limit, the limit is not the reason for the kill.
_FAR_BELOW = 0.75
# A job that ran longer (seconds) was sampled often enough to know its memory without page cache.
SAMPLED_S = 5.0


def decide(
    state: AttemptState,
    container: ContainerFacts | None,
    notes: ScriptNotes,
    boot_id: str,
    killed_from_outside: bool = False,
    wall_offset: float | None = None,
) -> Decision:
    """Decide how the attempt ended.

    Parameters
    ----------
    state
        The attempt's state.
    container
        Docker's description of the container, None if there is none.
    notes
        The notes of main.sh. The user's program can forge them, but only to the harm of its own
        result.
    boot_id
        The id of the present boot.
    killed_from_outside
        Whether Docker says that a signal was sent.
    wall_offset
        Wall clock minus the clock for time limits (clock.py), in seconds. It converts Docker's
        times.
    """
    if state.problem_outcome is not None:
        return Decision(state.problem_outcome, message=state.problem_message)
    if container is None and notes.exit_code is not None:
        # Somebody removed the container (`docker system prune`). Docker does not do that while it
        # runs.
        container = ContainerFacts(notes.exit_code, started_at=state.started_at or 0.0)
    if state.grant is None or container is None:
        return Decision(Outcome.NODE_TROUBLE, message="the node did not start the container")
    if notes.refused and container.exit_code == REFUSED_CODE:
        if notes.exit_code is None:
            return Decision(
                Outcome.NODE_TROUBLE, message="the node tried to start the container twice"
            )
        # The first run counts. main.sh's note is the only record of its end. A short run may have
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
        # dockerd was away when the container ended; the job itself ended normally.
        container = replace(container, exit_code=notes.exit_code)
    if container.started_at is None:
        why = f": {' '.join(container.error.split())[:200]}" if container.error else ""
        return Decision(Outcome.NODE_TROUBLE, message=f"the container could not be started{why}")
    wall = _ran_for(state, container, wall_offset if state.boot_id == boot_id else None)
    outcome, message = _how(state, state.grant, container, notes, killed_from_outside, wall)
    if state.boot_id != boot_id and notes.exit_code is None:
        outcome, message = Outcome.NODE_TROUBLE, "the machine was restarted while the job ran"
    return Decision(
        outcome,
        exitcode=container.exit_code,
        message=message,
        wallseconds=wall,
        cpuseconds=_cpu_seconds(state, notes, wall),
        peakmemorymb=_peak_memory_mb(state, notes),
        peaknocachemb=_peak_no_cache_mb(state, notes, wall),
    )


def _how(
    state: AttemptState,
    grant: StartGrant,
    container: ContainerFacts,
    notes: ScriptNotes,
    killed_from_outside: bool,
    wall: float | None,
) -> tuple[Outcome, str | None]:
    signalled = notes.terminated or killed_from_outside
    # A job may end by itself between the note of the limit and the signal.
    if state.time_limit_at is not None and (signalled or wall is None or wall >= grant.timelimit):
        limit = f"{grant.timelimit:g}"
        return (
            Outcome.TIME_LIMIT,
            f"time limit of {limit} s reached; output up to then was uploaded",
        )
    if state.disk_over_at is not None and (signalled or wall is None or container.exit_code != 0):
        return Outcome.OUT_OF_DISK, f"used more than {grant.diskmb} MB of disk"
    if container.oom_killed:
        return _out_of_memory(state, grant)
    if signalled or state.stopped_at is not None:
        return Outcome.STOPPED, "the job was stopped before it had ended"
    code = container.exit_code
    if code in _OUTSIDE_CODES and notes.exit_code is None:
        return Outcome.NODE_TROUBLE, f"the container was ended from outside (exit code {code})"
    if code != 0 and state.disk_full and grant.diskmb:
        # Another program filled the disk: this job did not use more than its limit.
        return (
            Outcome.NODE_TROUBLE,
            f"the node's disk was full; the job ended with exit code {code}",
        )
    return Outcome.ENDED, None


def _out_of_memory(state: AttemptState, grant: StartGrant) -> tuple[Outcome, str]:
    # With cgroup v2 Docker also reports oom_killed when the kernel ended it because the whole
    # machine had no memory.
    peak = state.peak_memory_mb or 0
    if state.machine_full and peak < grant.memorymb * _FAR_BELOW:
        return (
            Outcome.NODE_TROUBLE,
            f"the machine itself ran out of memory; the job used {peak} of its "
            f"{grant.memorymb} MB when it was ended",
        )
    return Outcome.OUT_OF_MEMORY, f"killed: used more than {grant.memorymb} MB"


def _ran_for(
    state: AttemptState, container: ContainerFacts, wall_offset: float | None
) -> float | None:
    """Return how long the container ran, in seconds; None if its end is not known."""
    if container.started_at is None or container.finished_at is None:
        return None
    if state.started_boottime is None or wall_offset is None:
        return max(0.0, container.finished_at - container.started_at)
    return max(0.0, container.finished_at - wall_offset - state.started_boottime)


def _cpu_seconds(state: AttemptState, notes: ScriptNotes, wall: float | None) -> float | None:
    # Docker's samples are reliable but miss the end. main.sh's note is complete but can be forged,
    # so it counts only if it is possible: at most 1024 cores for the whole time.
    sampled, noted = state.cpu_seconds, notes.cpu_seconds
    possible = wall is not None and state.grant is not None and noted is not None
    if possible and noted is not None and wall is not None and noted <= wall * 1024 + 1:
        sampled = max(noted, sampled or 0.0)
    return None if sampled is None else round(sampled, 2)


def _peak_memory_mb(state: AttemptState, notes: ScriptNotes) -> int | None:
    # A short job ends before a sample. main.sh's note counts only if it is within the job's limit.
    sampled, noted = state.peak_memory_mb, notes.peak_memory_mb
    if state.grant is not None and noted is not None and 0 < noted <= state.grant.memorymb:
        return max(noted, sampled or 0)
    return sampled


def _peak_no_cache_mb(state: AttemptState, notes: ScriptNotes, wall: float | None) -> int | None:
    # A short job was hardly sampled. Mostly its page cache only grew, and is no part of its peak.
    sampled, peak, cache = state.peak_no_cache_mb, notes.peak_memory_mb, notes.cache_mb
    if wall is None or wall >= SAMPLED_S or peak is None or cache is None or state.grant is None:
        return sampled
    noted = peak - cache
    return max(noted, sampled or 0) if 0 < noted <= state.grant.memorymb else sampled
