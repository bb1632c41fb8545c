"""task-status, task-cancel, task-purge."""

import json

import pytest


@pytest.fixture
def job(environment, water, service):
    import leruli

    return leruli.task_submit(str(water), "psi4", "1.5", "psi4 input.dat")


def test_status(leruli, water, service, job, tmp_path):
    assert leruli("task-status", cwd=water).stdout == "received\n"
    service.states[job] = ("failed", "exit code 3")
    done = leruli("task-status", job, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "failed: exit code 3\n")
    done = leruli("task-status", "--json", cwd=water)
    assert json.loads(done.stdout) == {"jobid": job, "status": "failed", "reason": "exit code 3"}


def test_status_without_a_job(leruli, tmp_path, environment):
    done = leruli("task-status")
    assert done.returncode == 4
    assert "leruli.job" in done.stderr
    assert leruli("task-status", "no-such-job").returncode == 4


def test_cancel(leruli, water, service, job):
    done = leruli("task-cancel", cwd=water)
    assert (done.returncode, done.stdout) == (0, "cancelled: cancelled by its owner\n")
    assert leruli("task-cancel", "no-such-job").returncode == 4


@pytest.mark.parametrize("state", ["received", "submitted", "running"])
def test_purge_refuses_while_the_job_is_not_over(leruli, water, service, job, store, state):
    service.states[job] = (state, None)
    bucket = (water / "leruli.bucket").read_text().strip()
    done = leruli("task-purge", cwd=water)
    assert done.returncode == 1
    assert state in done.stderr
    assert store.has_bucket(bucket)

    done = leruli("task-purge", "--force", "--quiet", cwd=water)
    assert (done.returncode, done.stdout) == (0, "")
    assert not store.has_bucket(bucket)


@pytest.mark.parametrize("verb", ["task-purge", "task-prune"])
def test_purge_removes_everything(leruli, water, service, job, store, verb):
    service.states[job] = ("completed", None)
    bucket = (water / "leruli.bucket").read_text().strip()
    for number in range(12):
        store.put(bucket, f"out/{number}", b"x")
    store._minio._create_multipart_upload(bucket, "unfinished", {})
    refused = leruli(verb, cwd=water)
    assert refused.returncode == 1
    assert "its results are not in this folder" in refused.stderr
    assert leruli("task-get", cwd=water).returncode == 0

    done = leruli(verb, cwd=water)

    assert done.returncode == 0, done.stderr
    assert "13 objects deleted" in done.stdout
    assert not store.has_bucket(bucket)
    assert (water / "leruli.job").exists()
    assert not (water / "leruli.bucket").exists()
    again = leruli(verb, cwd=water)
    assert again.returncode == 4
    assert "purged" in again.stderr


def test_purge_from_elsewhere_by_both_names(leruli, water, service, job, store):
    """The published client takes job id and bucket."""
    service.states[job] = ("cancelled", None)
    bucket = (water / "leruli.bucket").read_text().strip()
    assert leruli("task-purge", job, bucket).returncode == 0
    assert not store.has_bucket(bucket)


def test_purge_never_deletes_the_images(leruli, water, service, job, store):
    service.states[job] = ("completed", None)
    store.make_bucket("code-of-the-group")
    done = leruli("task-purge", job, "code-of-the-group")
    assert done.returncode == 1
    assert store.has_bucket("code-of-the-group")


def test_purge_after_an_interrupted_submission(leruli, water, service):
    service.faults.append((503, {}))
    leruli("task-submit", "psi4", "1.5", "psi4", cwd=water, LERULI_RETRY_SECONDS="0")
    done = leruli("task-purge", cwd=water)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert leruli("task-purge", "--force", cwd=water).returncode == 0
    assert not (water / "leruli.bucket").exists()
