"""What attempts used, from their receipts; and the batch in the grants."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from measured_world import USED
from service_world import GroupOfTest, call, claim_jobs, make_jobs, make_node_with_token
from slot_world import ask, dispatched, running

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

COLUMNS = (
    *("wall_s", "cpu_s", "peak_memory_mb", "peak_no_cache_mb"),
    *("disk_mb", "image_s", "input_s", "output_s"),
)
OLDER = {name: USED[name] for name in ("wallseconds", "cpuseconds", "peakmemorymb")}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"slot_max_s": 300.0})


@pytest.mark.parametrize("outcome", ["ended", "time_limit"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("used", [USED, OLDER], ids=["this agent", "an older agent"])
async def test_a_receipt_has_what_the_attempt_used(
    service: httpx.AsyncClient,
    pool: Pool,
    group: GroupOfTest,
    used: dict[str, float],
    together: bool,
    outcome: str,
) -> None:
    _, token = await make_node_with_token(pool, group)
    [job_id] = await make_jobs(pool, group, 1)
    await claim_jobs(pool, group, 1)
    attempt = {"jobid": str(job_id), "attempt": 1}
    await call(service, "attempt-start", nodetoken=token, **attempt, startkey="start-key-1")
    receipt = attempt | {"outcome": outcome, "exitcode": 0} | used
    if together:
        await call(service, "slot-next", nodetoken=token, receipts=[receipt])
    else:
        await call(service, "attempt-end", nodetoken=token, **receipt)
    row = await pool.fetchrow("SELECT * FROM attempts WHERE job_id = $1", job_id)
    found = [row[column] for column in COLUMNS]
    assert found == [used.get(name) for name in USED]


async def test_a_receipt_with_tiny_and_large_figures_is_stored(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    """A figure that the database could not hold would lose the receipts of all in the call."""
    _, token = await make_node_with_token(pool, group)
    for name, figure in (("imageseconds", 1e-300), ("inputseconds", 1e12)):
        [job_id] = await make_jobs(pool, group, 1)
        await claim_jobs(pool, group, 1)
        attempt = {"jobid": str(job_id), "attempt": 1}
        await call(service, "attempt-start", nodetoken=token, **attempt, startkey="start-key-1")
        receipt = attempt | {"outcome": "ended", "exitcode": 0, name: figure}
        answer = await call(service, "slot-next", nodetoken=token, receipts=[receipt])
        assert answer["receipts"] == [attempt | {"stale": None}]


async def test_each_grant_names_the_batch(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, settings: Settings
) -> None:
    """At a start by Nomad, in a slot, again after a lost answer, and from Nomad into a slot."""
    batch = uuid4()
    node, token = await make_node_with_token(pool, group)
    first = await running(pool, group, node)
    of_batch, without = [await _submitted(service, group, one) for one in (batch, None)]
    for key in ("a", "a"):
        grants = await ask(pool, node, settings, first, most=2, key=key)
        assert [(one.attempt.job_id, one.grant.batch) for one in grants] == [
            (of_batch, batch),
            (without, None),
        ]
    await pool.execute("UPDATE jobs SET state = 'completed' WHERE state = 'submitted'")
    for expected in (batch, None):
        job_id = await _submitted(service, group, expected)
        await claim_jobs(pool, group, 1)
        about = {"nodetoken": token, "jobid": str(job_id), "attempt": 1}
        answer = await call(service, "attempt-start", **about, startkey="start-key-1")
        assert answer["batch"] == (expected and str(expected))


async def test_a_job_that_goes_from_nomad_into_a_slot_keeps_its_batch(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest, settings: Settings
) -> None:
    node, _ = await make_node_with_token(pool, group)
    first = await running(pool, group, node)
    waiting = await dispatched(pool, group, ago_s=60)
    batch = uuid4()
    await _submitted(service, group, batch)
    await pool.execute(
        "UPDATE jobs SET batch = (SELECT number FROM batches) WHERE id = $1", waiting.job_id
    )
    await pool.execute("UPDATE attempts SET room_made_at = now() WHERE number = 1")
    [grant] = await ask(pool, node, settings, first)
    assert (grant.attempt.job_id, grant.attempt.number) == (waiting.job_id, 2)
    assert grant.grant.batch == batch


async def _submitted(service: httpx.AsyncClient, group: GroupOfTest, batch: UUID | None) -> UUID:
    # The resources of `make_jobs`.
    job: dict[str, Any] = {"secret": group.user_secret, "bucketid": str(uuid4()), "memorymb": 4000}
    job |= {"codeversion": "psi4:1.5"} | ({"batchid": str(batch)} if batch else {})
    return UUID(await call(service, "task-submit", **job))
