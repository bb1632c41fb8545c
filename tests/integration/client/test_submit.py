"""task-submit: one folder, against a real S3 server."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from pathlib import Path

import pytest
from batch_world import begin, wait_for

from leruli.folder.job_folder import JobFolder


def archive(store, bucket):
    target = io.BytesIO()
    response = store._minio.get_object(bucket, "run.tgz")
    target.write(gzip.decompress(response.read()))
    response.release_conn()
    target.seek(0)
    return tarfile.open(fileobj=target)


def test_submits_the_folder(leruli, water, service, store):
    done = leruli(
        *("task-submit", "--cores", "4", "--memory", "8000", "--time", "90", "--disk", "500"),
        *("psi4", "1.5", "psi4", "input.dat", "&&", "echo ü"),
        cwd=water,
    )

    assert (done.returncode, done.stderr) == (0, "")
    jobid = done.stdout.strip()
    assert (water / "leruli.job").read_text() == f"{jobid}\n"
    bucket = (water / "leruli.bucket").read_text().strip()
    assert str(uuid.UUID(bucket)) == bucket
    job = service.jobs[bucket]
    assert job["id"] == jobid
    assert job["codeversion"] == "psi4:1.5"
    assert (job["cores"], job["memorymb"], job["timelimit"]) == (4, 8000, 90 * 60)
    assert job["diskmb"] == 500
    with archive(store, bucket) as tar:
        assert tar.getnames() == [
            "./run.sh",
            "./basis sets",
            "./basis sets/empty",
            "./basis sets/größe.gbs",
            "./input.dat",
        ]
        script = tar.extractfile("./run.sh").read().decode()
        assert script == "#!/bin/bash\npsi4 input.dat && echo ü\n"
        assert tar.getmember("./run.sh").mode == 0o755
    assert {path.name for path in water.iterdir()} == {
        *("basis sets", "input.dat", "leruli.job", "leruli.bucket", "leruli.folder")
    }


def test_a_storage_that_ignores_our_header_is_asked_to_make_the_bucket(store, s3, monkeypatch):
    monkeypatch.setattr("leruli.storage.fast_put._MAKE_BUCKET", "X-Not-Known: 1\r\n")
    for _ in range(2):
        bucket = str(uuid.uuid4())
        store.put_into_new(bucket, "run.tgz", b"content")
        assert [item.size for item in store.list(bucket)] == [7]


def test_defaults_are_those_of_the_published_client(leruli, water, service):
    assert leruli("task-submit", "psi4", "1.5", "psi4", cwd=water).returncode == 0
    (job,) = service.jobs.values()
    assert (job["cores"], job["memorymb"], job["timelimit"]) == (1, 4000, 24 * 60 * 60)
    # An older service does not know it, and a newer one has a default.
    assert "diskmb" not in job


def test_a_bucket_with_results_of_an_own_job_leads_to_that_job(leruli, water, service, store):
    """An interruption between the service's commit and leruli.job leaves such a folder.

    It was refused for ever, and the advice to delete leruli.bucket made the job run twice.
    """
    first = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)
    (bucket,) = service.jobs
    store.put(bucket, "joblog.txt", b"results")
    before = archive(store, bucket).getnames()
    (water / "leruli.job").unlink()
    (water / "another input").touch()

    again = leruli("task-submit", "psi4", "1.3.2", "psi4", cwd=water)

    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert "accepted already" in again.stderr
    assert archive(store, bucket).getnames() == before
    assert (water / "leruli.job").read_text() == first.stdout
    assert service.calls.count("task-submit") == 1


@pytest.mark.parametrize("batch", [(), ("--batch", ".")], ids=["one", "batch"])
def test_an_older_service_cannot_tell_whose_results_they_are(leruli, water, service, store, batch):
    """The FAKE service answers the call as one that does not know it."""
    service.scripted["bulk/task-find"] = lambda _: (404, {"detail": "Not Found"})
    bucket = str(uuid.uuid4())
    (water / "leruli.bucket").write_text(f"{bucket}\n")
    store.make_bucket(bucket)
    store.put(bucket, "joblog.txt", b"results")
    refused = leruli("task-submit", *batch, "psi4", "1.5", "psi4", cwd=water)
    assert refused.returncode == 1
    assert "older than this client" in refused.stderr
    assert service.jobs == {}
    for verb in ("task-status", "task-cancel"):
        asked = leruli(verb, "--batch", ".", cwd=water)
        assert asked.returncode == 1
        assert "it is unknown whether it has a job" in asked.stdout + asked.stderr
    # Without results it is submitted again: such a service has one job per bucket.
    store.remove_bucket(bucket)
    done = leruli("task-submit", *batch, "psi4", "1.5", "psi4", cwd=water)
    assert done.returncode == 0, done.stderr
    assert list(service.jobs) == [bucket]


def test_json_and_second_submission(leruli, water, service):
    done = leruli("task-submit", "--json", "psi4", "1.5", "psi4", cwd=water)
    assert json.loads(done.stdout)["jobid"] == (water / "leruli.job").read_text().strip()

    again = leruli("task-submit", "--json", "psi4", "1.5", "psi4", cwd=water)
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"]["exit_code"] == 1
    assert "already submitted" in again.stderr
    assert len(service.jobs) == 1


@pytest.mark.parametrize("name", ["run.sh", "joblog.txt", "joberr.txt"])
def test_reserved_names_are_refused_before_anything_happens(leruli, water, service, name, s3):
    (water / name).write_text("")
    buckets = set(s3.root.iterdir())

    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)

    assert done.returncode == 1
    assert name in done.stderr
    assert not (water / "leruli.bucket").exists()
    assert set(s3.root.iterdir()) == buckets
    assert service.calls == []


def test_two_submissions_of_one_folder_at_the_same_time(leruli, water, service, store):
    """M6: the second replaced run.sh of the first, and got the job id of the first."""
    service.faults.extend([(503, {"Retry-After": "1"})] * 4)
    first = begin(water, "task-submit", "--cores", "16", "psi4", "1.5", "psi4 input.dat")
    try:
        wait_for(lambda: "task-submit" in service.calls)
        second = leruli("task-submit", "psi4", "1.3.2", "orca input.dat", cwd=water)
    finally:
        out, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert second.returncode == 1
    assert "Another leruli is submitting this folder" in second.stderr
    [(bucket, job)] = service.jobs.items()
    assert (job["id"], job["cores"]) == (out.strip(), 16)
    with archive(store, bucket) as tar:
        assert b"psi4 input.dat" in tar.extractfile("./run.sh").read()
    again = leruli("task-submit", "psi4", "1.3.2", "orca input.dat", cwd=water)
    assert "already submitted" in again.stderr


def test_a_batch_and_a_submission_of_one_of_its_folders(leruli, water, service):
    """M6: the folder that another process submits fails; the other one is submitted."""
    other = water.with_name("wine")
    other.mkdir()
    with JobFolder(str(water)).hold(JobFolder(str(water)).claim_bucket()[0]):
        done = leruli("task-submit", "--batch", "w*", "psi4", "1.5", "psi4", "--json")
    document = json.loads(done.stdout)
    assert list(document["submitted"]) == ["wine"]
    assert "Another leruli" in document["failed"]["water"]
    done = leruli("task-submit", "--batch", "w*", "psi4", "1.5", "psi4", "--json")
    assert list(json.loads(done.stdout)["submitted"]) == ["water"]


def test_a_lost_answer_gives_one_job(leruli, water, service, lost_answer):
    service.faults.append(lost_answer)

    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)

    assert done.returncode == 0, done.stderr
    assert service.calls == ["group-token", "task-check", "task-submit", "task-submit"]
    (job,) = service.jobs.values()
    assert done.stdout.strip() == job["id"]


def test_retry_after_is_honoured(leruli, water, service):
    service.faults.append((503, {"Retry-After": "2"}))
    started = time.monotonic()

    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)

    assert done.returncode == 0
    assert time.monotonic() - started >= 2
    assert "trying again in 2 s" in done.stderr


def test_retrying_ends(leruli, water, service):
    service.faults.extend([(503, {"Retry-After": "3600"})] * 2)

    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)

    assert done.returncode == 5
    assert service.calls == ["group-token", "task-check", "task-submit"]
    assert (water / "leruli.bucket").exists()
    assert not (water / "leruli.job").exists()


def test_a_rerun_continues_with_the_same_bucket(leruli, water, service):
    service.faults.append((503, {}))
    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water, LERULI_RETRY_SECONDS="0")
    assert done.returncode == 5
    bucket = (water / "leruli.bucket").read_text().strip()

    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)

    assert done.returncode == 0
    assert bucket in done.stderr
    assert list(service.jobs) == [bucket]


def test_a_refusal_says_why(leruli, water, service):
    service.refuse = lambda job: (422, "cores: the largest node has 16")
    done = leruli("task-submit", "--cores", "99", "psi4", "1.5", "psi4", cwd=water)
    assert done.returncode == 1
    assert "the largest node has 16" in done.stderr

    service.refuse = lambda job: (412, "There is no compute secret yet.")
    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water)
    assert done.returncode == 1
    assert "Your group cannot run jobs yet: There is no compute secret yet." in done.stderr


def test_a_wrong_secret_is_noticed_before_anything_is_sent(leruli, water, service, s3):
    buckets = set(s3.root.iterdir())
    wrong = "lqa-wrongwrong-wrongwrongwrongwrongwrongww-2345672"

    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water, LERULI_API_SECRET=wrong)

    assert done.returncode == 3
    assert "did not accept LERULI_API_SECRET" in done.stderr
    assert wrong not in done.stderr
    assert not (water / "leruli.bucket").exists()
    assert set(s3.root.iterdir()) == buckets


@pytest.mark.parametrize("batch", [(), ("--batch", ".")], ids=["one", "batch"])
def test_an_image_that_is_not_published_is_refused_before_anything_is_sent(
    leruli, water, service, batch
):
    done = leruli("task-submit", *batch, "psi4", "1.6", "psi4", cwd=water)
    assert done.returncode == 4
    assert "psi4:1.6 is not published" in done.stderr
    assert "1.3.2, 1.5" in done.stderr
    done = leruli("task-submit", *batch, "orca", "5", "orca", cwd=water)
    assert "no orca at all; it has " in done.stderr
    assert not (water / "leruli.bucket").exists()
    assert set(service.calls) == {"group-token", "group-image-tokens"}


def test_wrong_keys_and_absent_storage(leruli, water, environment):
    wrong = "x" * 40
    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water, LERULI_S3_SECRET=wrong)
    assert done.returncode == 6
    assert "did not accept your keys" in done.stderr
    assert wrong not in done.stderr

    done = leruli(
        *("task-submit", "psi4", "1.5", "psi4"), cwd=water, LERULI_S3_SERVER="http://127.0.0.1:1"
    )
    assert done.returncode == 6
    assert "did not answer" in done.stderr


def test_missing_certificate_bundles_do_no_harm(leruli, water, service):
    missing = "/nonexistent/ca.pem"
    done = leruli(
        *("task-submit", "psi4", "1.5", "psi4"),
        cwd=water,
        SSL_CERT_FILE=missing,
        REQUESTS_CA_BUNDLE=missing,
        CURL_CA_BUNDLE=missing,
        LERULI_S3_SERVER=os.environ["LERULI_S3_SERVER"] + "/",
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("batch", [(), ("--batch", ".")], ids=["one", "batch"])
def test_ctrl_c_during_the_upload(environment, water, service, store, batch):
    with (water / "big.bin").open("wb") as file:
        for _ in range(300):
            file.write(os.urandom(1024 * 1024))
    process = subprocess.Popen(
        [sys.executable, "-m", "leruli", "task-submit", *batch, "psi4", "1.5", "psi4"],
        cwd=water,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "cli")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    bucket_file = water / "leruli.bucket"
    deadline = time.monotonic() + 20
    while not (bucket_file.exists() and _parts(store, bucket_file.read_text().strip())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert out == ""
    assert "run the same command again" in err
    assert "Traceback" not in err
    bucket = bucket_file.read_text().strip()
    assert store.list(bucket) == []
    assert _parts(store, bucket) == []
    assert service.calls == ["group-token", "task-check"]


def _parts(store, bucket):
    from minio.error import S3Error

    from leruli.errors import StorageError

    try:
        return store._minio._list_multipart_uploads(bucket).uploads
    except (S3Error, StorageError):
        return []


def test_a_big_folder_is_submitted_in_little_memory(environment, water, service, store):
    size = 256 * 1024 * 1024  # more than the client may use
    block = os.urandom(1024 * 1024)
    with (water / "big.bin").open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    # Not getrusage(): its peak is inherited from pytest, which forked the process.
    code = (
        "import leruli, re\n"
        "leruli.task_submit('.', 'psi4', '1.5', ['psi4', 'input.dat'])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=water,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "cli")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) < 200 * 1024
    (bucket,) = service.jobs
    (item,) = store.list(bucket)
    assert item.size > size * 0.9


def test_the_python_function_returns_the_id_and_raises(environment, water, service):
    import leruli

    jobid = leruli.task_submit(str(water), "psi4", "1.5", ("psi4", "input.dat"), cores=2)

    assert (water / "leruli.job").read_text().strip() == jobid
    assert leruli.task_status(jobid) == {"status": "received", "reason": None}
    with pytest.raises(ValueError, match="already submitted"):
        leruli.task_submit(str(water), "psi4", "1.5", "psi4 input.dat")
    with pytest.raises(leruli.NotFoundError):
        leruli.task_status("nosuchjob")


def test_an_image_is_named_in_one_word_as_list_codes_prints_it(leruli, water, service):
    """D9: list-codes printed psi4:1.5, and task-submit refused it as no image."""
    assert leruli("list-codes").stdout == "psi4:1.3.2\npsi4:1.5\n"
    done = leruli("task-submit", "psi4:1.5", "psi4", "input.dat", cwd=water)
    assert done.returncode == 0, done.stderr
    [job] = service.jobs.values()
    assert job["codeversion"] == "psi4:1.5"


def test_a_mistyped_image_gets_a_suggestion(leruli, water):
    done = leruli("task-submit", "pis4:1.5", "psi4", "input.dat", cwd=water)
    assert done.returncode == 4
    assert "Did you mean psi4:1.5?" in done.stderr


@pytest.mark.parametrize("setting", ["LERULI_S3_SERVER", "LERULI_BASEURL"])
def test_https_for_a_server_that_speaks_http_is_explained(leruli, environment, water, setting):
    """D13: the client blamed the storage's certificate, and retried the queue for 15 s."""
    address = environment[setting].removeprefix("http://")
    https = {setting: f"https://{address}"}
    done = leruli("task-submit", "psi4", "1.5", "psi4", cwd=water, **https)
    assert done.returncode in (5, 6)
    assert f"speaks http:// and {setting} begins with https://" in done.stderr
    assert "trying again" not in done.stderr
    assert not (water / "leruli.bucket").exists()
