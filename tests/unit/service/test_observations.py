"""Payloads as Nomad 1.11.3 sends them (reference: nomad-dispatch.md, section 2)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from leruli_queue.dispatch.observations import observe
from leruli_queue.dispatch.reasons import unplaced_reason
from leruli_queue.jobs.attempts import AttemptId
from leruli_queue.nomad.names import attempt_of_child, attempt_token, node_id_of

ATTEMPT = AttemptId(UUID("01a209cb-ee73-712b-b92c-6d318568ce35"), 12)
CHILD = f"leruli-abc-psi4-1c-0123456789abcdef/dispatch-{attempt_token(ATTEMPT)}-1763924689-1a2b3c4d"


NODE = "f7f06db1-d2ef-4844-8325-3db796483ea5"
BARE = {"ID": "a1", "JobID": CHILD, "NodeID": NODE, "CreateIndex": 7, "ClientStatus": "pending"}


def allocation(status: str, **tasks: dict[str, Any]) -> dict[str, Any]:
    return BARE | {"ClientStatus": status, "TaskStates": tasks}


STARTED = {"State": "running", "StartedAt": "2026-11-23T19:04:54.694012345Z"}
DONE = {"State": "dead", "StartedAt": "2026-11-23T19:04:54Z", "FinishedAt": "2026-11-23T19:05:00Z"}


def test_the_attempt_is_read_from_the_id_of_the_child_job() -> None:
    assert attempt_of_child(CHILD) == ATTEMPT


@pytest.mark.parametrize(
    "job_id", ["", "other", "leruli-abc", "x/dispatch-1763924689-1a2b3c4d", CHILD.split("/")[0]]
)
def test_other_jobs_are_not_ours(job_id: str) -> None:
    assert attempt_of_child(job_id) is None
    assert observe({"ID": "a", "JobID": job_id}) is None


@pytest.mark.parametrize(
    "node_id",
    ["", None, "a" * 36, "no-uuid", NODE.upper(), NODE.replace("-", ""), f"{NODE}\n"],
)
def test_a_node_id_that_the_service_never_gave_out_is_ignored(node_id: str | None) -> None:
    assert observe(BARE | {"NodeID": node_id}) is None
    assert node_id_of(node_id) is None


def test_missing_task_states_mean_no_task() -> None:
    seen = observe(BARE | {"ClientStatus": "failed", "TaskStates": {"main": None}})
    assert seen is not None
    assert seen.dead


def test_a_running_main_task_is_running() -> None:
    seen = observe(allocation("running", main=STARTED))
    assert seen is not None
    assert seen.running_since is not None
    assert not seen.dead


def test_a_fresh_allocation_has_no_task_states() -> None:
    seen = observe(BARE)
    assert seen is not None
    assert (seen.running_since, seen.dead, seen.silent) == (None, False, False)


@pytest.mark.parametrize("status", ["complete", "failed", "running", "unknown"])
def test_a_dead_task_means_over(status: str) -> None:
    seen = observe(allocation(status, main=DONE))
    assert seen is not None
    assert seen.dead


def test_an_allocation_stopped_during_stage_in_is_not_over() -> None:
    seen = observe(allocation("pending", main={"State": "pending"}) | {"DesiredStatus": "stop"})
    assert seen is not None
    assert not seen.dead


def test_an_allocation_stopped_before_its_node_took_it_is_over() -> None:
    seen = observe(BARE | {"DesiredStatus": "stop"})
    assert seen is not None
    assert seen.dead
    running = observe(allocation("running", main=STARTED) | {"DesiredStatus": "stop"})
    assert running is not None
    assert not running.dead


def test_lost_allocations_and_those_never_set_up_are_over() -> None:
    lost = observe(allocation("lost", main=STARTED))
    never = observe(allocation("failed", main={"State": "pending"}))
    assert lost is not None
    assert lost.dead
    assert never is not None
    assert never.dead


def test_an_allocation_on_a_silent_node_is_silent_and_not_over() -> None:
    seen = observe(allocation("unknown", main=STARTED))
    assert seen is not None
    assert (seen.silent, seen.dead) == (True, False)


def test_a_main_task_that_never_started_has_go_zero_time() -> None:
    main = {"State": "dead", "StartedAt": "0001-01-01T00:00:00Z"}
    seen = observe(allocation("failed", main=main))
    assert seen is not None
    assert seen.running_since is None


@pytest.mark.parametrize(
    "started_at",
    [
        None,
        "",
        "garbage",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-13-45T99:00:00Z",
        17,
    ],
)
def test_an_invalid_start_time_is_none(started_at: object) -> None:
    for main in ({"State": "running", "StartedAt": started_at}, {"State": "running"}):
        seen = observe(allocation("running", main=main))
        assert seen is not None
        assert seen.running_since is None


def test_why_an_attempt_is_unplaced() -> None:
    def evaluation(**metric: Any) -> dict[str, Any]:
        return {"FailedTGAllocs": {"calculation": metric}}

    full = evaluation(NodesEvaluated=2, DimensionExhausted={"cpu": 1, "memory": 1})
    assert unplaced_reason(full) == "waiting for a node with enough free cores and memory"
    assert unplaced_reason(evaluation(NodesEvaluated=0)) == (
        "waiting for a node: Nomad has no machine of the group as ready"
    )
    assert unplaced_reason({"FailedTGAllocs": None}) is None
