"""How an attempt ended: one pure function, one table.

| first that holds | outcome |
|---|---|
| stage-in met a problem | as it noted |
| no container | node_trouble |
| main.sh refused a second start, and no end of the first one is noted | node_trouble |
| the container never started | node_trouble |
| the machine was restarted while the job ran | node_trouble |
| the time limit was noted and reached | time_limit |
| the kernel killed for memory | out_of_memory |
| TERM from outside (drain, cancel, shutdown of the node) | stopped |
| code 137 or 255 and main.sh noted no end of its own | node_trouble |
| otherwise | ended, with the exit code: Docker's, or main.sh's note where Docker says 137 or 255 |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from leruli_node.control import Hints
from leruli_node.state import AttemptState, Decision, Lease

REFUSED_CODE = 122
# What Docker reports for containers that were killed, or that ended while dockerd was away.
_OUTSIDE_CODES = (137, 255)


@dataclass(frozen=True)
class ContainerFacts:
    """A container that is not running, as Docker describes it; times in seconds since 1970."""

    exit_code: int
    oom_killed: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""


def decide(
    state: AttemptState,
    container: ContainerFacts | None,
    hints: Hints,
    boot_id: str,
    killed_from_outside: bool = False,
) -> Decision:
    """How the attempt ended.

    `hints` are main.sh's notes, which the user's program could have forged: they can only spoil
    its own result. `killed_from_outside` is Docker's word that somebody sent a signal.
    """
    if state.problem_outcome is not None:
        return Decision(state.problem_outcome, message=state.problem_message)
    if state.lease is None or container is None:
        return Decision("node_trouble", message="the node did not start the container")
    if hints.refused and container.exit_code == REFUSED_CODE:
        if hints.exit_code is None:
            return Decision("node_trouble", message="the node tried to start the container twice")
        # The first run counts; of its end main.sh's note is all that is known. A short one may have
        # been over before its start was seen.
        container = replace(
            container,
            exit_code=hints.exit_code,
            started_at=state.started_at or container.started_at,
            finished_at=None,
        )
    elif (
        container.exit_code in _OUTSIDE_CODES
        and hints.exit_code is not None
        and not container.oom_killed
    ):
        # dockerd was away when it ended; the job itself had ended in order.
        container = replace(container, exit_code=hints.exit_code)
    wall = None
    if container.started_at is not None and container.finished_at is not None:
        wall = max(0.0, container.finished_at - container.started_at)
    if container.started_at is None:
        why = f": {' '.join(container.error.split())[:200]}" if container.error else ""
        return Decision("node_trouble", message=f"the container could not be started{why}")
    outcome, message = _how(state, state.lease, container, hints, boot_id, killed_from_outside)
    return Decision(
        outcome,
        exitcode=container.exit_code,
        message=message,
        wallseconds=wall,
        cpuseconds=_cpu_seconds(state, hints, wall),
    )


def _how(
    state: AttemptState,
    lease: Lease,
    container: ContainerFacts,
    hints: Hints,
    boot_id: str,
    killed_from_outside: bool,
) -> tuple[str, str | None]:
    if state.boot_id != boot_id and hints.exit_code is None:
        return "node_trouble", "the machine was restarted while the job ran"
    if state.time_limit_at is not None and _reached_limit(lease, container):
        limit = f"{lease.timelimit:g}"
        return "time_limit", f"time limit of {limit} s reached; output up to then was uploaded"
    if container.oom_killed:
        return "out_of_memory", f"killed: used more than {lease.memorymb} MB"
    if hints.terminated or killed_from_outside or state.stopped_at is not None:
        return "stopped", "the job was stopped before it had ended"
    if container.exit_code in _OUTSIDE_CODES and hints.exit_code is None:
        code = container.exit_code
        return "node_trouble", f"the container was ended from outside (exit code {code})"
    return "ended", None


def _reached_limit(lease: Lease, container: ContainerFacts) -> bool:
    # A job may end by itself between the note and the signal; Docker's times tell.
    if container.started_at is None or container.finished_at is None:
        return True
    return container.finished_at - container.started_at >= lease.timelimit


def _cpu_seconds(state: AttemptState, hints: Hints, wall: float | None) -> float | None:
    # Docker's samples are sure but miss the end; main.sh's note is whole but can be forged, so it
    # is only believed where it is possible.
    sampled, noted = state.cpu_seconds, hints.cpu_seconds
    possible = wall is not None and state.lease is not None and noted is not None
    if possible and noted is not None and wall is not None and noted <= wall * 1024 + 1:
        return max(noted, sampled or 0.0)
    return sampled
