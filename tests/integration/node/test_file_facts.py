"""Issue 17, 2: modes and times of results are stored as user metadata of their objects."""

from __future__ import annotations

import io
import tarfile

from node_rig import Job, Rig

# 2020-01-02T03:04:05.123456789Z
TIME_NS = 1577934245123456789


def facts(rig: Rig, job: Job, name: str) -> tuple[str | None, int | None]:
    metadata = rig.store.client.stat_object(job.bucket, name).metadata or {}
    mtime = metadata.get("x-amz-meta-leruli-mtime")
    return metadata.get("x-amz-meta-leruli-mode"), int(mtime) if mtime else None


def test_modes_and_times_of_results(rig: Rig) -> None:
    """Also for an object in parts (more than 16 MB), for a log, and for a file of another user."""
    job = rig.job(
        "umask 022; echo x >new; echo x >program; chmod 750 program; mkdir d; "
        "head -c 40000000 /dev/zero >d/large; chmod 4640 d/large; "
        "touch -d 2020-01-02T03:04:05.123456789Z program d/large; chmod 600 joblog.txt"
    )
    assert rig.run(job)["exitcode"] == 0
    assert facts(rig, job, "new")[0] == "644"
    assert facts(rig, job, "program") == ("750", TIME_NS)
    assert facts(rig, job, "d/large") == ("640", TIME_NS)
    assert facts(rig, job, "joblog.txt")[0] == "600"
    assert facts(rig, job, "joberr.txt")[0] == "644"
    # An object without a file has none.
    assert facts(rig, job, "run.tgz") == (None, None)


def test_an_input_that_the_job_wrote_to_has_its_own_mode(rig: Rig) -> None:
    """In the container every user can write to it: that mode is the agent's, not the user's."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, mode in (("a", 0o640), ("b.sh", 0o744), ("c", 0o600), ("run.sh", 0o755)):
            member = tarfile.TarInfo(name)
            content = b"for name in a b.sh c; do echo '# more' >>$name; done; chmod 400 c"
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    job = rig.job(run_tgz=data.getvalue())
    assert rig.run(job)["exitcode"] == 0
    assert {name: facts(rig, job, name)[0] for name in ("a", "b.sh", "c")} == {
        "a": "640",
        "b.sh": "744",
        "c": "400",
    }
