import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from leruli.errors import AlreadySubmittedError, NotFoundError, RefusedError
from leruli.folder.job_folder import JobFolder, replacing


def test_a_bucket_is_claimed_once(tmp_path):
    folder = JobFolder(str(tmp_path))
    name, resumed = folder.claim_bucket()
    assert str(uuid.UUID(name)) == name
    assert not resumed
    assert (tmp_path / "leruli.bucket").read_text() == f"{name}\n"
    assert folder.claim_bucket() == (name, True)
    assert [path.name for path in tmp_path.iterdir()] == ["leruli.bucket"]


def test_claims_at_the_same_moment_get_the_same_name(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        claims = [pool.submit(JobFolder(str(tmp_path)).claim_bucket) for _ in range(64)]
    assert len({claim.result()[0] for claim in claims}) == 1


def test_an_empty_bucket_file_counts_as_absent(tmp_path):
    (tmp_path / "leruli.bucket").write_text("")
    name, resumed = JobFolder(str(tmp_path)).claim_bucket()
    assert not resumed
    assert JobFolder(str(tmp_path)).bucket() == name


def test_a_damaged_bucket_file_is_refused(tmp_path):
    (tmp_path / "leruli.bucket").write_text("../../etc\n")
    with pytest.raises(RefusedError, match="does not hold the name of a bucket"):
        JobFolder(str(tmp_path)).bucket()


def test_check(tmp_path):
    with pytest.raises(NotFoundError):
        JobFolder(str(tmp_path / "absent")).check()
    JobFolder(str(tmp_path)).check()
    JobFolder(str(tmp_path)).record_job("some-id")
    assert (tmp_path / "leruli.job").read_text() == "some-id\n"
    with pytest.raises(AlreadySubmittedError):
        JobFolder(str(tmp_path)).check()


def test_forget_bucket_removes_only_the_named_one(tmp_path):
    name, _ = JobFolder(str(tmp_path)).claim_bucket()
    JobFolder(str(tmp_path)).forget_bucket("another")
    assert (tmp_path / "leruli.bucket").exists()
    JobFolder(str(tmp_path)).forget_bucket(name)
    assert not (tmp_path / "leruli.bucket").exists()


def test_replacing_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with replacing(str(path)) as part:
            Path(part).write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
