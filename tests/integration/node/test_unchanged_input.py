"""Issue 17, 2: input files that the job left unchanged are not uploaded."""

from __future__ import annotations

import io
import tarfile

import pytest
from node_rig import Job, Rig, wait_for

LOGS = {"run.tgz", "joblog.txt", "joberr.txt"}
INPUT = {"a.dat": b"12345", "sub/b.dat": b"67890", "sub/c.dat": b"abc"}


def output(rig: Rig, job: Job) -> set[str]:
    return rig.store.names(job.bucket) - LOGS


def wait_until_it_ran(rig: Rig, job: Job, start: str) -> None:
    """Run the job's container to its end, with the agent in its present state."""
    container = rig.run_container(job)
    wait_for(lambda: (rig.node_dir / "jobs" / job.name / "rundir" / start).exists(), what="start")
    container.wait(timeout=60)


def test_only_what_the_job_changed_is_uploaded(rig: Rig) -> None:
    kept = ("kept", "touched", "copied over", "d/kept", "ä")
    changed = ("longer", "same size", "mode", "emptied", "removed", "moved", "linked")
    job = rig.job(
        "echo more >>longer; "
        # The same size, and the old time is restored.
        "touch -r 'same size' /tmp/t; printf 'AS IT WAS' >'same size'; "
        "touch -r /tmp/t 'same size'; "
        "chmod 700 mode; : >emptied; rm removed; mv moved elsewhere; mv linked x; ln -s x linked; "
        "touch touched; cp 'copied over' /tmp/c; rm 'copied over'; cp /tmp/c 'copied over'; "
        "chmod 666 'copied over'; ln kept another; mkdir new-and-empty",
        dict.fromkeys((*kept, *changed), b"as it was"),
    )
    receipt = rig.run(job)
    assert (receipt["outcome"], receipt["exitcode"]) == ("ended", 0)
    assert output(rig, job) == {
        *("longer", "same size", "mode", "emptied", "elsewhere", "x", "another"),
        "leruli-more.tar.gz",
    }
    assert rig.store.get(job.bucket, "same size") == b"AS IT WAS"
    assert rig.store.get(job.bucket, "another") == b"as it was"
    archive = rig.store.get(job.bucket, "leruli-more.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert members.getnames() == ["linked"]
    assert receipt["uploadedfiles"] == len(rig.store.names(job.bucket)) - 1
    assert receipt["message"] == "in leruli-more.tar.gz: 1 link; joberr.txt has the names"


def test_the_list_survives_sigkill_of_the_agent(rig: Rig) -> None:
    job = rig.job("echo >begun; sleep 2; echo x >>sub/b.dat", INPUT)
    assert rig.stage_in(job) == 0
    rig.kill()
    wait_until_it_ran(rig, job, "begun")
    rig.start()
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"
    assert output(rig, job) == {"begun", "sub/b.dat"}


@pytest.mark.parametrize("lost", ["missing", "cut", "of other content", "empty"])
def test_all_is_uploaded_when_the_list_is_lost(rig: Rig, lost: str) -> None:
    """Like an input that an older agent unpacked."""
    job = rig.job("true", INPUT)
    assert rig.stage_in(job) == 0
    known = rig.node_dir / "jobs" / job.name / "inputs"
    content = known.read_bytes()
    if lost == "missing":
        known.unlink()
    else:
        known.write_bytes({"cut": content[:-64], "empty": b""}.get(lost, b"?" * len(content)))
    rig.run_container(job).wait(timeout=60)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["uploadedfiles"] == len(INPUT) + 2
    assert output(rig, job) == set(INPUT)


def test_input_files_that_an_earlier_attempt_uploaded_are_removed(rig: Rig) -> None:
    """The first attempt changed it, or its agent uploaded all files; the second did not."""
    first = rig.job("echo >>a.dat", INPUT)
    assert rig.run(first)["outcome"] == "ended"
    assert output(rig, first) == {"a.dat"}
    second = Job(first.job, 2, first.bucket, f"{first.alloc}2", first.grant)
    rig.service.grants[second.key] = second.grant
    assert rig.stage_in(second) == 0
    script = rig.node_dir / "jobs" / second.name / "rundir" / "run.sh"
    script.write_text("true")
    rig.run_container(second).wait(timeout=60)
    assert rig.stage_out(second) == 0
    assert rig.receipt(second)["uploadedfiles"] == 2
    assert output(rig, second) == set()


def test_limits_of_the_output_count_what_is_uploaded(rig: Rig) -> None:
    rig.kill()
    rig.settings["LERULI_NODE_OUTPUT_MAX_FILES"] = "3"
    rig.start()
    inputs = {f"{n:03}.dat": b"%d" % n for n in range(50)}
    job = rig.job("echo new >1.out; echo new >2.out; echo more >>007.dat; ln -s 1.out link", inputs)
    receipt = rig.run(job)
    assert output(rig, job) == {"1.out", "2.out", "007.dat", "leruli-more.tar.gz"}
    assert receipt["message"] == "in leruli-more.tar.gz: 1 link; joberr.txt has the names"


def test_an_odd_name_and_an_empty_folder(rig: Rig) -> None:
    """An unchanged file whose name is not UTF-8 does not go into the archive of the rest."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, content in (("bad\udcff", b"1"), ("run.sh", b"true")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    job = rig.job(run_tgz=data.getvalue())
    assert rig.run(job)["message"] is None
    assert output(rig, job) == set()
