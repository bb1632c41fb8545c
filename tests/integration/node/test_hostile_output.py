"""Harmful output of a job delays no receipt, no answer and no start."""

from __future__ import annotations

import gzip
import io
import tarfile

from node_rig import Rig, wait_for

# Like `for i in $(seq 1400); do mkdir d; cd d; done`, but faster.
DEEP = """p=$(printf 'd/%.0s' $(seq 700))
for i in 1 2; do mkdir -p $p; cd $p; done
echo deep >f; chmod 0 .
"""


def test_a_deep_tree_costs_no_slot(rig: Rig) -> None:
    """H2: a job with 1,400 nested folders: the driver gets its answer, the next agent starts."""
    job = rig.job(DEEP)
    assert rig.run(job)["outcome"] == "ended"
    assert rig.is_clean(job)
    trash = rig.node_dir / "jobs" / ".trash"
    wait_for(lambda: not list(trash.iterdir()), 60, "an empty trash")
    second = rig.job(DEEP)
    assert rig.stage_in(second) == 0
    rig.run_container(second).wait(timeout=60)
    rig.kill()
    (rig.node_dir / "receipts" / f"{second.id}.json").write_text(
        f'{{"jobid": "{second.job}", "attempt": 1, "outcome": "ended", "exitcode": 0}}'
    )
    rig.start()
    assert rig.receipt(second)["outcome"] == "ended"
    wait_for(lambda: rig.is_clean(second), what="clean")
    assert rig.run(rig.job("echo on"))["outcome"] == "ended"


def test_more_files_than_may_be_objects(rig: Rig) -> None:
    """H10: results beyond LERULI_NODE_OUTPUT_MAX_FILES are in one archive, as the note says."""
    rig.kill()
    rig.settings["LERULI_NODE_OUTPUT_MAX_FILES"] = "20"
    rig.start()
    job = rig.job("mkdir d; cd d; for i in $(seq 100 149); do echo $i >f$i; done; ln -s f100 l")
    receipt = rig.run(job)
    assert receipt["outcome"] == "ended"
    assert receipt["uploadedfiles"] == 23
    assert len(rig.store.names(job.bucket)) == 24
    data = rig.store.get(job.bucket, "leruli-more.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert sorted(archive.getnames()) == [*(f"d/f{n}" for n in range(120, 150)), "d/l"]
        content = archive.extractfile("d/f149")
        assert content
        assert content.read() == b"149\n"
    assert receipt["message"] == (
        "in leruli-more.tar.gz: 30 files after the first 20, 1 link; joberr.txt has the names"
    )
    said = "in leruli-more.tar.gz: 30 files after the first 20: d/f120, d/f121"
    assert said.encode() in rig.store.get(job.bucket, "joberr.txt")


def test_an_input_of_nested_folders(rig: Rig) -> None:
    """H2: 165 bytes of run.tgz with 1,900 nested folders are refused, and cost no slot."""
    name = b"a/" * 1900
    raw = header(b"L", len(name)) + name + b"\0" * (-len(name) % 512) + header(b"5", 0)
    job = rig.job(run_tgz=gzip.compress(raw + b"\0" * 1024))
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert receipt["outcome"] == "input_broken"
    assert receipt["message"] == "the input has more than 100 folders in each other"
    assert rig.is_clean(job)


def header(kind: bytes, size: int) -> bytes:
    made = tarfile.TarInfo("a")
    made.type, made.size = kind, size
    return made.tobuf(tarfile.GNU_FORMAT)
