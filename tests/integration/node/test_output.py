"""The output of a container that may be hostile."""

from __future__ import annotations

import hashlib
from pathlib import Path

from node_rig import Rig


def test_files_of_another_user_with_mode_0600(rig: Rig, user_archive: bytes) -> None:
    rig.publish("withuser", "1", user_archive)
    job = rig.job(
        "id -u; umask 077; echo secret >s.txt; mkdir d; echo x >d/x; chmod 000 d/x; chmod 500 d",
        {"in.txt": b"i", "sub/in.txt": b"j"},
        code="withuser",
    )
    receipt = rig.run(job)
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "joblog.txt") == b"1000\n"
    assert rig.store.get(job.bucket, "s.txt") == b"secret\n"
    assert rig.store.get(job.bucket, "d/x") == b"x\n"
    assert rig.is_clean(job)


def test_input_is_writable_for_another_user(rig: Rig, user_archive: bytes) -> None:
    rig.publish("withuser", "1", user_archive)
    job = rig.job("echo more >>in/a.txt; echo n >in/new", {"in/a.txt": b"a\n"}, code="withuser")
    assert rig.run(job)["exitcode"] == 0
    assert rig.store.get(job.bucket, "in/a.txt") == b"a\nmore\n"


def test_links_pipes_and_odd_names(rig: Rig) -> None:
    job = rig.job(
        "ln -s /etc/passwd p; ln -s /etc etc; ln -s . loop; mkfifo pipe; "
        "mkdir d; ln -s ../../../../etc/shadow d/s; echo ok >'d/with space'; "
        "echo bad >$'bad\\xff'; echo nl >$'new\\nline'"
    )
    receipt = rig.run(job)
    assert receipt["exitcode"] == 0
    assert rig.store.names(job.bucket) == {
        "run.tgz",
        "joblog.txt",
        "joberr.txt",
        "d/with space",
        "leruli-more.tar.gz",
    }
    # Short in the job's reason; the names are in joberr.txt.
    assert receipt["message"] == (
        "in leruli-more.tar.gz: 1 file with a name that is not UTF-8, 1 file with control "
        "characters in the name, 4 links; not uploaded, and gone with the job's folder: 1 pipe, "
        "socket or device; joberr.txt has the names"
    )
    told = rig.store.get(job.bucket, "joberr.txt").decode()
    assert "not uploaded, and gone with the job's folder: 1 pipe, socket or device: pipe" in told
    assert "1 file with a name that is not UTF-8: bad\\xff" in told
    assert "1 file with control characters in the name: new\\nline" in told
    assert b"4 links: etc, loop, p, d/s" in rig.store.get(job.bucket, "joberr.txt")


def test_logs_replaced_by_links(rig: Rig) -> None:
    job = rig.job("rm joblog.txt joberr.txt; ln -s /etc/passwd joblog.txt; mkdir joberr.txt")
    assert rig.run(job)["exitcode"] == 0
    assert rig.store.get(job.bucket, "joblog.txt") == b""
    assert b"1 link: joblog.txt" in rig.store.get(job.bucket, "joberr.txt")


def test_rundir_and_control_replaced_by_the_job_are_harmless(rig: Rig) -> None:
    job = rig.job(
        "rm -rf /leruli/*; ln -s /etc/passwd /leruli/exitcode; mkfifo /leruli/times; echo o >o.txt"
    )
    receipt = rig.run(job)
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert rig.store.get(job.bucket, "o.txt") == b"o\n"


def test_300_megabytes(rig: Rig) -> None:
    job = rig.job("head -c 314572800 /dev/urandom >big; sha256sum <big | cut -c1-64")
    receipt = rig.run(job)
    assert receipt["outcome"] == "ended"
    assert receipt["uploadedbytes"] == 314572800 + 65
    response = rig.store.client.get_object(job.bucket, "big")
    digest = hashlib.sha256()
    for chunk in response.stream(2**20):
        digest.update(chunk)
    response.close()
    assert rig.store.get(job.bucket, "joblog.txt").decode().strip() == digest.hexdigest()
    # The agent holds parts, not files.
    assert rig.process
    status = Path(f"/proc/{rig.process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 200_000


def test_broken_input_is_reported(rig: Rig) -> None:
    job = rig.job(run_tgz=b"this is no archive")
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert receipt["outcome"] == "input_broken"
    assert receipt["message"].startswith("the input cannot be unpacked")
    assert b"cannot be unpacked" in rig.store.get(job.bucket, "joberr.txt")
    assert rig.is_clean(job)


def test_missing_input(rig: Rig) -> None:
    job = rig.job()
    rig.store.client.remove_object(job.bucket, "run.tgz")
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["message"] == "the job's input (run.tgz) is missing"
