"""Batches from Python, also for asyncio, at the real service and the real storage."""

from __future__ import annotations

import asyncio

import pytest
from batch_world import job_of, set_states, submitting

import leruli
from leruli import aio
from leruli.cancellation import StoppedError
from leruli.jobs.fetch import Wanted
from leruli.python_api.batches import got_batch


@pytest.fixture
def scan(real, tmp_path):
    """A batch "scan" of five folders."""
    folders = [tmp_path / "scan" / f"case-{number}" for number in range(5)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "input.dat").write_text(folder.name)
    done = real(*submitting()[:3], "--name", "scan", *submitting()[3:], cwd=tmp_path / "scan")
    assert done.returncode == 0, done.stderr
    return folders


def write_results(store, folders):
    for folder in folders:
        bucket = (folder / "leruli.bucket").read_text().strip()
        store.put(bucket, "output.dat", f"energy of {folder.name}".encode())


def test_list_and_status(real, scan, queue, group):
    for number in range(2):
        name = f"other {number}"
        extra = scan[0].parent / f"more-{number}"
        extra.mkdir()
        (extra / "input.dat").write_text("x")
        submit = submitting(pattern=f"more-{number}/")
        assert real(*submit[:3], "--name", name, *submit[3:], cwd=scan[0].parent).returncode == 0
    newest, _, oldest = leruli.batch_list()
    assert (newest.name, oldest.name, oldest.job_count) == ("other 1", "scan", 5)
    assert [one.name for one in leruli.batch_list(limit=1)] == ["other 1"]
    after = leruli.batch_list(after=newest.batch_id)
    assert [one.name for one in after] == ["other 0", "scan"]

    set_states(queue, group, "running", scan[:4])
    set_states(queue, group, "failed", scan[:1])
    set_states(queue, group, "completed", scan[1:3])
    for named in ("scan", oldest.batch_id, oldest.batch_id[:8]):
        found = leruli.batch_status(named)
        assert (found.batch_id, found.job_count) == (oldest.batch_id, 5)
    assert {state: count for state, count in found.counts.items() if count} == {
        "received": 1,
        "running": 1,
        "completed": 2,
        "failed": 1,
    }
    [failure] = found.failures
    assert (failure.jobid, failure.name) == (job_of(scan[0]), "case-0")
    assert failure.reason == "exit code 3"
    assert found.rate > 0
    assert found.expected_end > found.last_ended_at > found.submitted_at
    assert found.is_active
    set_states(queue, group, "completed", scan)
    over = leruli.batch_status("scan")
    assert (over.is_active, over.expected_end) == (False, None)


def test_cancel(real, scan, queue, group):
    set_states(queue, group, "completed", scan[:1])
    queue.sql(
        "UPDATE jobs SET state = 'running', started_at = now() WHERE id = $1", job_of(scan[1])
    )
    assert leruli.batch_cancel("scan") == leruli.CancelledBatch(cancelled=3, stopping=1)
    assert leruli.batch_cancel("scan") == leruli.CancelledBatch(cancelled=0, stopping=0)
    assert leruli.batch_status("scan").counts["cancelled"] == 3


def test_get_from_any_folder_of_the_tree(real, scan, queue, group, store, tmp_path, monkeypatch):
    write_results(store, scan)
    set_states(queue, group, "completed", scan[:3])
    outside = tmp_path / "a" / "b" / "c"
    outside.mkdir(parents=True)
    monkeypatch.chdir(outside)
    with pytest.raises(leruli.NotFoundError, match="no journal of batch"):
        leruli.batch_get("scan", outside)
    found = leruli.batch_get("scan", tmp_path)
    assert len(found.done) == 3
    assert len(found.skipped) == 2
    assert (scan[0] / "output.dat").read_text() == "energy of case-0"
    assert not (scan[3] / "output.dat").exists()
    again = leruli.batch_get("scan", scan[0])
    assert not again.done
    assert list(again.skipped.values()).count("fetched before") == 3
    assert len(leruli.batch_get("scan", str(scan[0].parent), again=True).done) == 3


@pytest.mark.parametrize("call", [leruli.batch_status, leruli.batch_cancel])
def test_a_batch_has_to_be_named(real, scan, call):
    with pytest.raises(leruli.NotFoundError, match="is not a batch of yours"):
        call("nothing")
    with pytest.raises(leruli.RefusedError, match="batch is empty"):
        call("")
    with pytest.raises(TypeError, match="batch has to be a text, not 5"):
        call(5)


def test_a_name_of_several_batches_is_refused(real, scan, tmp_path):
    other = tmp_path / "elsewhere" / "scan"
    (other / "case-9").mkdir(parents=True)
    (other / "case-9" / "input.dat").write_text("x")
    done = real(*submitting()[:3], "--name", "scan", *submitting()[3:], cwd=other)
    assert done.returncode == 0, done.stderr
    ids = [one.batch_id for one in leruli.batch_list()]
    with pytest.raises(leruli.RefusedError, match="fits several of your batches") as raised:
        leruli.batch_status("scan")
    assert all(batchid in str(raised.value) for batchid in ids)
    assert leruli.batch_status(ids[0]).job_count == 1


async def test_the_same_for_asyncio(real, scan, queue, group, store):
    write_results(store, scan[:1])
    await asyncio.to_thread(set_states, queue, group, "completed", scan[:1])
    assert [one.name async for one in aio.batch_list(limit=1)] == ["scan"]
    status, got = await asyncio.gather(
        aio.batch_status("scan"), aio.batch_get("scan", scan[0].parent)
    )
    assert (status.counts["completed"], len(got.done)) == (1, 1)
    assert await aio.batch_cancel("scan") == leruli.CancelledBatch(cancelled=4, stopping=0)
    with pytest.raises(leruli.NotFoundError):
        await aio.batch_status("nothing")


def test_fetching_stops_when_its_task_is_cancelled(real, scan, queue, group, store):
    def check_cancelled():
        raise StoppedError

    write_results(store, scan)
    set_states(queue, group, "completed", scan)
    with pytest.raises(StoppedError):
        got_batch("scan", scan[0].parent, Wanted(), check_cancelled)
    # What was interrupted can be done again.
    assert len(leruli.batch_get("scan", scan[0].parent, again=True).done) == 5
