"""task-get at the real service and storage: no file that a person changed or made is lost."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import stat

import pytest
from batch_world import begin, wait_for
from folder_world import INPUT, LONG_AGO, make_folder, submit_folder

from leruli.folder.job_folder import RECORD_FILE
from leruli.folder.record import read_record


@pytest.fixture
def folder(real, queue, store, tmp_path):
    """A folder that was submitted; see folder_world."""
    path = tmp_path / "mol-0.96"
    make_folder(path)
    return submit_folder(real, queue, store, path)


def test_an_input_that_was_edited_meanwhile_stays(real, folder):
    """D2: the submitted input replaced the edited one."""
    (folder.path / "input.dat").write_text("r = 1.00\n")
    folder.ends(input_dat=INPUT, output_dat=b"E = -74.9\n")

    done = real("task-get", cwd=folder.path)

    assert done.returncode == 1
    assert folder.read("input.dat") == "r = 1.00\n"
    assert folder.beside("input.dat").read_bytes() == INPUT
    assert folder.beside("input.dat").name in done.stderr
    assert "input.dat, link.dat changed after the job of this folder" in done.stderr
    assert folder.read("output.dat") == "E = -74.9\n"
    again = real("task-get", "--json", cwd=folder.path)
    assert json.loads(again.stdout)["bytes"] == 0, "what is beside is not downloaded again"
    assert len(list(folder.path.glob("*.leruli-*"))) == 1
    assert real("task-get", "--overwrite", cwd=folder.path).returncode == 0
    assert folder.read("input.dat") == INPUT.decode()


def test_files_equal_to_the_storage_are_not_touched(real, folder):
    """D2: a script lost its mode and date, and a link became a copy."""
    before = (folder.path / "go.sh").stat()
    folder.ends(input_dat=INPUT, link_dat=INPUT, go_sh=b"#!/bin/sh\n", output_dat=b"E\n")

    done = real("task-get", cwd=folder.path)

    assert (done.returncode, done.stdout) == (0, "Fetched 1 file, 2 bytes; 3 here already.\n")
    assert (folder.path / "go.sh").stat() == before
    assert (folder.path / "link.dat").is_symlink()


def test_a_file_that_the_job_changed_is_replaced_until_a_person_changes_it(real, folder):
    folder.ends("running", input_dat=b"r = 0.97\n", restart_bin=b"1", link_dat=b"new")
    done = real("task-get", cwd=folder.path)
    assert done.returncode == 0, done.stderr
    assert "link.dat was a link" in done.stderr
    assert (folder.read("input.dat"), folder.read("link.dat")) == ("r = 0.97\n", "new")
    folder.ends(input_dat=b"r = 0.98\n", restart_bin=b"22")
    assert real("task-get", cwd=folder.path).returncode == 0
    assert (folder.read("input.dat"), folder.read("restart.bin")) == ("r = 0.98\n", "22")
    assert set(read_record(str(folder.path)).results) == {"input.dat", "restart.bin", "link.dat"}

    (folder.path / "restart.bin").write_text("mine")
    done = real("task-get", cwd=folder.path)
    assert done.returncode == 1
    assert folder.read("restart.bin") == "mine"
    assert folder.beside("restart.bin").read_text() == "22"
    # An edited file beside is not replaced either.
    folder.beside("restart.bin").write_text("mine as well")
    assert real("task-get", cwd=folder.path).returncode == 1
    assert folder.beside("restart.bin").read_text() == "mine as well"
    assert folder.beside("restart.bin").with_name(
        folder.beside("restart.bin").name + "-2"
    ).read_text() == ("22")


def test_a_folder_of_the_published_client(real, folder):
    """Without a record, a file that is newer than leruli.job counts as changed."""
    (folder.path / RECORD_FILE).unlink()
    (folder.path / "notes.txt").write_text("mine")
    folder.ends(input_dat=b"r = 0.97\n", notes_txt=b"the job's")
    done = real("task-get", cwd=folder.path)
    assert done.returncode == 1
    assert folder.read("input.dat") == "r = 0.97\n"
    assert folder.read("notes.txt") == "mine"
    assert folder.beside("notes.txt").read_text() == "the job's"


@pytest.mark.parametrize("how", ["job", "bucket", "id"])
def test_into_another_folder_no_file_is_replaced(real, folder, tmp_path, how):
    """D7: a job id in place of a bucket was looked up as a bucket only."""
    folder.ends("failed", "exit code 2", input_dat=INPUT, output_dat=b"E\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "input.dat").write_text("of another calculation")
    which = {"job": ("--job", folder.job), "bucket": (folder.bucket,), "id": (folder.job,)}[how]

    done = real("task-get", *which, cwd=other)

    assert done.returncode == 1, done.stderr
    assert (other / "input.dat").read_text() == "of another calculation"
    assert (other / "output.dat").read_text() == "E\n"
    end = folder.bucket[-8:] if how == "bucket" else folder.job[-8:]
    assert (other / f"input.dat.leruli-{end}").read_bytes() == INPUT
    if how != "bucket":
        assert "failed: exit code 2" in done.stderr


def test_an_id_of_neither_a_job_nor_a_bucket(real, folder, tmp_path):
    done = real("task-get", "0" * 8 + folder.job[8:], cwd=tmp_path)
    assert done.returncode == 4
    assert "There is no bucket of that name in the storage either" in done.stderr


def test_a_copied_folder_is_refused(real, folder):
    """D1: the results of the original came into the copy, over the edited input."""
    folder.ends(input_dat=INPUT, output_dat=b"E = -74.9\n")
    copy = folder.path.with_name("mol-1.00")
    shutil.copytree(folder.path, copy, symlinks=True)
    (copy / "input.dat").write_text("r = 1.00\n")

    done = real("task-get", cwd=copy)

    assert done.returncode == 1
    assert "holds the job of" in done.stderr
    assert not (copy / "output.dat").exists()
    assert (copy / "input.dat").read_text() == "r = 1.00\n"
    assert real("task-get", cwd=folder.path).returncode == 0


@pytest.mark.parametrize("has_record", [True, False])
def test_copied_folders_in_a_batch(real, folder, has_record):
    """D1: with a record the original is fetched. Without one (published client), none is."""
    folder.ends(input_dat=INPUT, output_dat=b"E\n")
    if not has_record:
        (folder.path / RECORD_FILE).unlink()
    for name in ("mol-1.00", "mol-1.10"):
        copy = folder.path.with_name(name)
        shutil.copytree(folder.path, copy, symlinks=True)
        (copy / "input.dat").write_text(name)

    done = real("task-get", "--batch", "mol-*", "--json")

    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["fetched"] == (["mol-0.96"] if has_record else [])
    assert {"mol-1.00", "mol-1.10"} <= set(document["failed"])
    assert all(f"Not fetched: {name}" in done.stderr for name in document["failed"])
    assert folder.path.with_name("mol-1.00").joinpath("input.dat").read_text() == "mol-1.00"


def test_an_edited_folder_in_a_batch_is_reported_each_time(real, folder):
    (folder.path / "input.dat").write_text("r = 1.00\n")
    folder.ends(input_dat=INPUT, output_dat=b"E\n")
    for _ in range(2):
        done = real("task-get", "--batch", "mol-*")
        assert done.returncode == 1
        assert "To be looked at: mol-0.96: " in done.stderr
        assert "1 to be looked at" in done.stdout
        assert folder.read("input.dat") == "r = 1.00\n"
        assert folder.beside("input.dat").read_bytes() == INPUT


def test_the_state_and_the_reason_are_printed_first(real, folder):
    """D3: a failed job's results were fetched without a warning."""
    lines = [f"line {number}" for number in range(9)] + ["x" * 500, "\x1b[2Jno such file"]
    reason = "its command ended with exit code 2"
    folder.ends("failed", reason, joberr_txt="\n".join(lines).encode(), output_dat=b"E = 1\n")

    done = real("task-get", "--quiet", cwd=folder.path)

    assert done.returncode == 0
    told = done.stderr.splitlines()
    assert told[0].startswith(f"The job has failed: {reason}. Exit code 2 is")
    assert told[1] == "The end of joberr.txt:"
    assert told[2:5] == ["    line 6", "    line 7", "    line 8"]
    assert len(told[5]) == 204
    assert told[6] == "    \\x1b[2Jno such file"
    document = json.loads(real("task-get", "--json", cwd=folder.path).stdout)
    assert (document["status"], document["reason"]) == ("failed", reason)
    assert document["joberr"][-1] == "\x1b[2Jno such file"


def test_modes_and_times_of_results(real, folder):
    moment = LONG_AGO + 123_456_789
    values = {
        "run-again.sh": {"leruli-mode": "755", "leruli-mtime": str(moment)},
        "secret.key": {"leruli-mode": "0", "leruli-mtime": "-1"},
        "set-id": {"leruli-mode": "4777", "leruli-mtime": "9" * 19},
        "odd": {"leruli-mode": "rwx", "leruli-mtime": "yesterday"},
    }
    folder.ends()
    for name, metadata in values.items():
        folder.store._minio.put_object(folder.bucket, name, io.BytesIO(b"x"), 1, metadata=metadata)
    os.umask(0o022)
    assert real("task-get", cwd=folder.path).returncode == 0
    modes = {name: stat.S_IMODE((folder.path / name).stat().st_mode) for name in values}
    assert modes == {"run-again.sh": 0o755, "secret.key": 0o400, "set-id": 0o755, "odd": 0o644}
    assert (folder.path / "run-again.sh").stat().st_mtime_ns == moment


def test_a_kill_at_any_point_loses_nothing(real, folder):
    for number in range(400):
        folder.store.put(folder.bucket, f"out/{number}", b"%d" % number)
    folder.ends(input_dat=b"r = 0.97\n")
    process = begin(folder.path, "task-get")
    wait_for(lambda: len(list(folder.path.glob("out/*"))) >= 40)
    process.kill()
    process.communicate()
    there = {path.name: path.read_text() for path in folder.path.glob("out/[0-9]*")}
    assert all(name == content for name, content in there.items())

    done = real("task-get", cwd=folder.path)

    assert done.returncode == 0, done.stderr
    assert len(list(folder.path.glob("out/[0-9]*"))) == 400
    assert not list(folder.path.rglob("[!.]*.leruli-*"))
    assert folder.read("input.dat") == "r = 0.97\n"


def parts(folder):
    return sorted(folder.path.rglob(".leruli-part-*"))


def begin_large_fetch(folder):
    """Begin to fetch a large result into a subfolder; return the process."""
    folder.store.put(folder.bucket, "out/wfn", b"0" * 200 * 2**20)
    folder.ends(output_dat=b"E\n")
    process = begin(folder.path, "task-get", "--json")
    wait_for(lambda: any(part.parent.name == "out" for part in parts(folder)))
    return process


def test_part_files_of_a_killed_fetch_are_removed_by_the_next(real, folder):
    process = begin_large_fetch(folder)
    process.kill()
    process.communicate()
    assert parts(folder)
    assert real("task-get", cwd=folder.path).returncode == 0
    assert parts(folder) == []


def test_part_files_of_a_running_fetch_stay(real, folder):
    process = begin_large_fetch(folder)
    process.send_signal(signal.SIGSTOP)
    try:
        written = [part for part in parts(folder) if part.parent.name == "out"]
        assert real("task-get", cwd=folder.path).returncode == 0
        assert [part for part in parts(folder) if part.parent.name == "out"] == written
    finally:
        process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "out/wfn" in json.loads(out)["files"]
    assert parts(folder) == []


def test_without_leruli_bucket_the_job_is_still_found(real, folder):
    """D6: the client said that the files were purged, without a check."""
    folder.ends(output_dat=b"E\n")
    bucket = folder.bucket
    (folder.path / "leruli.bucket").unlink()
    assert real("task-get", cwd=folder.path).returncode == 0
    assert folder.read("output.dat") == "E\n"
    (folder.path / "output.dat").unlink()
    assert real("task-get", "--batch", "mol-*").stdout.startswith(
        "Fetched 1 completed (1 file, 2 bytes"
    )
    assert folder.read("output.dat") == "E\n"

    assert real("task-purge", cwd=folder.path).returncode == 0
    assert not folder.store.has_bucket(bucket)
    for command in ("task-get", "task-purge"):
        gone = real(command, cwd=folder.path)
        assert gone.returncode == 4
        assert "There is no bucket" in gone.stderr
        assert "purged, or it is in another storage" in gone.stderr
    skipped = json.loads(real("task-purge", "--batch", "mol-*", "--json").stdout)["skipped"]
    assert skipped == {"mol-0.96": "purged, or in another storage"}
