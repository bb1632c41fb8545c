"""task-get against a real S3 server."""

import json
import uuid

import pytest


@pytest.fixture
def job(environment, water, service, store):
    """A submitted job folder; returns a function that puts an output into its bucket."""
    import leruli

    leruli.task_submit(str(water), "psi4", "1.5", "psi4 input.dat")
    bucket = (water / "leruli.bucket").read_text().strip()

    def put(name, content=b"x"):
        store.put(bucket, name, content)

    put.bucket = bucket
    put.jobid = (water / "leruli.job").read_text().strip()
    return put


def test_fetches_results_but_not_the_input(leruli, water, service, job):
    service.states[job.jobid] = ("completed", None)
    job("joblog.txt", b"converged\n")
    job("scratch dir/ünï/result 1.out", b"42\n")
    job("run.sh", b"#!/bin/bash\n")
    job("empty.out", b"")

    done = leruli("task-get", cwd=water)

    assert (done.returncode, done.stderr) == (0, "The job is completed.\n")
    assert done.stdout == "Fetched 3 files, 13 bytes.\n"
    assert (water / "joblog.txt").read_bytes() == b"converged\n"
    assert (water / "scratch dir" / "ünï" / "result 1.out").read_bytes() == b"42\n"
    assert (water / "empty.out").read_bytes() == b""
    assert not (water / "run.sh").exists()
    assert not (water / "run.tgz").exists()
    assert not list(water.rglob(".leruli-part-*"))

    assert leruli("task-get", "--all", cwd=water).returncode == 0
    assert (water / "run.tgz").exists()


def test_no_results_yet(leruli, water, service, job):
    service.states[job.jobid] = ("running", None)
    done = leruli("task-get", cwd=water)
    assert done.returncode == 4
    assert "the job is running" in done.stderr


def test_results_so_far(leruli, water, service, job):
    service.states[job.jobid] = ("running", None)
    job("joblog.txt", b"iteration 1\n")
    done = leruli("task-get", cwd=water)
    assert done.returncode == 0
    assert "The job is running" in done.stderr


@pytest.mark.parametrize("name", ["leruli.job", "link/escape", "outside.txt/below"])
def test_refuses_names_that_would_do_harm(leruli, water, job, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (water / "link").symlink_to(outside)
    (water / "outside.txt").write_text("a file")
    before = (water / "leruli.job").read_text()
    job("good.out")
    job(name, b"evil")

    done = leruli("task-get", "--json", cwd=water)

    assert done.returncode == 1
    assert list(json.loads(done.stdout)["refused"]) == [name]
    assert json.loads(done.stdout)["files"] == ["good.out"]
    assert list(outside.iterdir()) == []
    assert (water / "leruli.job").read_text() == before


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_link_in_the_place_of_a_file_is_never_followed(leruli, water, job, tmp_path, overwrite):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (water / "result.out").symlink_to(victim)
    job("result.out", b"result")

    done = leruli("task-get", *(["--overwrite"] if overwrite else []), cwd=water)

    assert done.returncode == (0 if overwrite else 1)
    assert victim.read_text() == "precious"
    assert (water / "result.out").is_symlink() is not overwrite
    [found] = water.glob("result.out" if overwrite else "result.out.leruli-*")
    assert found.read_text() == "result"


def test_fetches_a_big_file_whole(leruli, water, job, store):
    content = bytes(range(256)) * 256 * 1024  # 64 MiB
    with store.writing(job.bucket, "wave.fn", len(content)) as sink:
        sink.write(content)
    done = leruli("task-get", "--quiet", cwd=water)
    assert (done.returncode, done.stdout) == (0, "")
    assert (water / "wave.fn").read_bytes() == content


def test_a_purged_bucket(leruli, water, job, tmp_path):
    done = leruli("task-get", str(uuid.uuid4()), cwd=tmp_path)
    assert done.returncode == 4
    assert "purged" in done.stderr

    done = leruli("task-get", cwd=tmp_path)
    assert done.returncode == 4
    assert "leruli.bucket" in done.stderr


def test_works_without_the_service(leruli, water, job):
    job("a.out")
    done = leruli(
        "task-get", cwd=water, LERULI_BASEURL="http://127.0.0.1:1", LERULI_RETRY_SECONDS="0"
    )
    assert done.returncode == 0


def test_the_python_function(environment, job, tmp_path):
    import leruli

    job("a/b.out", b"1")
    target = tmp_path / "elsewhere"
    target.mkdir()
    assert leruli.task_get(str(target), job.bucket) == ["a/b.out"]
    assert (target / "a" / "b.out").read_bytes() == b"1"
