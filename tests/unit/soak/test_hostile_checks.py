"""Each check for enemies finds its fault, and their archives and commands are as named."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable

import pytest

from soak.enemy_jobs import deep_archive, header_bomb, many_entries, memory_mb, recipes
from soak.hostile_checks import HostileEvidence, findings
from soak.memory import Peak

BEFORE = {"archive-1/thesis.pdf": "aa 2026-11-24", "archive-1/raw/2019.h5": "bb 2026-11-24"}


def _evidence() -> HostileEvidence:
    return HostileEvidence(
        canaries_before=dict(BEFORE),
        canaries_after=dict(BEFORE),
        memory={
            "node": Peak(60.0, 259.0),
            "service": Peak(90.0, 200.0),
            "dispatcher": Peak(70.0, 90.0),
        },
        honest_in_flight_s=600.0,
        hostile_in_flight_s=300.0,
        honest_users=4,
        hostile_users=2,
        broken_node_attempts=7,
    )


def test_a_run_without_a_fault_has_no_findings() -> None:
    assert findings(_evidence(), 7) == []


def _write_over(evidence: HostileEvidence) -> None:
    evidence.canaries_after["archive-1/thesis.pdf"] = "cc 2026-11-24"


def _write_the_same(evidence: HostileEvidence) -> None:
    evidence.canaries_after["archive-1/thesis.pdf"] = "aa 2026-11-25"


def _delete(evidence: HostileEvidence) -> None:
    del evidence.canaries_after["archive-1/raw/2019.h5"]


def _write_beside(evidence: HostileEvidence) -> None:
    evidence.canaries_after["archive-1/joberr.txt"] = "dd 2026-11-25"


def _agent_grows(evidence: HostileEvidence) -> None:
    evidence.memory["node"] = Peak(60.0, 261.0)


def _service_grows(evidence: HostileEvidence) -> None:
    evidence.memory["service"] = Peak(90.0, 513.0)


def _dispatcher_grows(evidence: HostileEvidence) -> None:
    evidence.memory["dispatcher"] = Peak(90.0, 600.0)


def _hold_turns(evidence: HostileEvidence) -> None:
    evidence.hostile_in_flight_s = 600.0


def _keep_a_job(evidence: HostileEvidence) -> None:
    evidence.open_jobs.append("the hostile job 1 (a deep tree (H2)) is running: None")


def _fail_on_and_on(evidence: HostileEvidence) -> None:
    evidence.broken_node_attempts = 59


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (_write_over, "the foreign object archive-1/thesis.pdf was overwritten"),
        (_write_the_same, "the foreign object archive-1/thesis.pdf was overwritten"),
        (_delete, "the foreign object archive-1/raw/2019.h5 is gone"),
        (_write_beside, "archive-1/joberr.txt was written into another user's bucket"),
        (_agent_grows, "node used 261 MB, more than 260 MB"),
        (_service_grows, "service used 513 MB, more than 512 MB"),
        (_dispatcher_grows, "dispatcher used 600 MB, more than 512 MB"),
        (_hold_turns, "the enemies had 50% of all jobs in flight; their share is 33%"),
        (_keep_a_job, "the hostile job 1 (a deep tree (H2)) is running: None"),
        (_fail_on_and_on, "the node that fails everything had 59 attempts"),
    ],
)
def test_each_fault_is_found(plant: Callable[[HostileEvidence], object], sentence: str) -> None:
    evidence = _evidence()
    plant(evidence)
    assert findings(evidence, 7) == [f"seed 7: {sentence}"]


def _entries(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getmembers()


def test_the_archives_are_as_their_recipes_say() -> None:
    bomb = header_bomb()
    assert len(bomb) < 2 * 2**20
    assert len(gzip.decompress(bomb)) > 215 * 2**20
    assert _entries(deep_archive())[1].name == "a/" * 1899 + "a"
    [_, *folders] = _entries(many_entries(2000))
    assert len({folder.name for folder in folders}) == len(folders) == 2000


def test_tar_reads_a_record_of_the_header_bomb() -> None:
    # Reading all of it, tarfile would hold as much memory as the unpacker must not.
    raw = gzip.decompress(header_bomb())[: 3 * 2**20]
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r|") as tar:
        tar.next()
        found = tar.next()
    assert found is not None
    assert len(found.pax_headers["comment"]) == 900 * 1024


def test_every_command_is_bash() -> None:
    large = (header_bomb, many_entries)
    for recipe in recipes():
        if recipe.archive is None or recipe.archive in large:
            continue
        with tarfile.open(fileobj=io.BytesIO(recipe.archive())) as tar:
            file = tar.extractfile("./run.sh")
            assert file is not None
            subprocess.run(["bash", "-n"], input=file.read(), check=True)


def test_only_jobs_of_odd_sizes_have_them() -> None:
    odd = [recipe for recipe in recipes() if recipe.is_odd_size]
    assert len({memory_mb(odd[0], number) for number in range(100)}) == 100
    plain = next(recipe for recipe in recipes() if not recipe.is_odd_size)
    assert {memory_mb(plain, number) for number in range(100)} == {64}
    assert sum(recipe.share for recipe in recipes()) == 100
