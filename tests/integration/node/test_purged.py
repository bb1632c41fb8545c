"""The client purges the bucket of a job that is not over: the job fails with a true reason."""

from __future__ import annotations

import pytest
from node_rig import Job, Rig

from leruli.jobs.purge import purge
from leruli.settings import StorageSettings
from leruli.storage.store import Store
from leruli_queue.jobs.outcomes import Limits, Outcome, Receipt, Verdict, judge

WENT = "its bucket is not there any more: it was purged or deleted"


def task_purge(rig: Rig, job: Job) -> None:
    """Purge like `leruli task-purge --force`."""
    host = rig.store.url.removeprefix("http://")
    storage = Store(StorageSettings(host, False, rig.store.access, rig.store.secret))
    assert purge(storage, job.bucket) == 1  # run.tgz


def verdict(rig: Rig, job: Job) -> Verdict:
    """Return the service's verdict on the delivered receipt."""
    told = rig.receipt(job)
    receipt = Receipt(Outcome(told["outcome"]), told["exitcode"], told["message"])
    limits = Limits(job.grant["memorymb"], job.grant["timelimit"], "plain:1")
    return judge(receipt, limits, cancel_requested=False, stop_expected=False)


@pytest.mark.parametrize("code", [0, 3])
def test_purged_while_it_runs(rig: Rig, code: int) -> None:
    job = rig.job(f"until [ -e go ]; do sleep 0.1; done; echo E > output.dat; exit {code}")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    task_purge(rig, job)
    (rig.node_dir / "jobs" / job.name / "rundir" / "go").touch()
    container.wait(timeout=60)
    assert rig.stage_out(job) == 0
    told = verdict(rig, job)
    assert (told.state, told.reason) == (
        "failed",
        f"{WENT} while the job ran, so there are no results",
    )
    assert rig.is_clean(job)


def test_purged_before_it_runs(rig: Rig) -> None:
    job = rig.job()
    task_purge(rig, job)
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    told = verdict(rig, job)
    assert (told.state, told.reason) == ("failed", f"{WENT} before the job could run")
    assert rig.is_clean(job)
