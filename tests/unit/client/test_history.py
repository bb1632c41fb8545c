"""Archiving the last job: files that move, files that stay, and a kill at any step."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from leruli.errors import RefusedError
from leruli.folder.history import leave_original, set_aside
from leruli.folder.leftovers import leftovers_of
from leruli.folder.packing import take_inventory
from leruli.folder.provenance import provenance_of, provenances_of
from leruli.folder.record import FileState, Place, Record, add_results, read_record, write_record
from leruli.jobs.resubmit import spec_of
from leruli.jobs.submit import JobSpec, pack, prepare

BUCKET = "2c3f9a52-51f0-4f0c-8a5e-0d9f8f1f2a11"
JOB = "01a23273-0000-7000-8000-0000000000aa"
SPEC = JobSpec("psi4", "1.5", "psi4 input.dat", cores=4)


class Killed(BaseException):
    """Simulates SIGKILL."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with fetched results. The job rewrote an input, and a person edited a result."""
    made = tmp_path / "mol"
    made.mkdir()
    inputs = {"input.dat": "r = 0.96\n", "restart.wfn": "first\n"}
    results = {"output.dat": "energy\n", "scratch/deep/x": "x\n", "joblog.txt": "log\n"}
    for name, text in {**inputs, **results, "notes.txt": "result\n"}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    states = {name: FileState.of(str(made / name)) for name in inputs}
    write_record(str(made), Record(BUCKET, Place.of(str(made)), vars(SPEC), states))
    (made / "leruli.bucket").write_text(f"{BUCKET}\n")
    (made / "leruli.job").write_text(f"{JOB}\n")
    (made / "restart.wfn").write_text("second\n")
    fetched = {
        name: FileState.of(str(made / name)) for name in (*results, "notes.txt", "restart.wfn")
    }
    add_results(str(made), BUCKET, fetched)
    (made / "notes.txt").write_text("mine\n")
    return made


def files(folder: Path) -> set[str]:
    return {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()}


def packed(folder: Path, **options: bool) -> set[str]:
    prepared = prepare(str(folder), SPEC, **options)
    return {entry.name for entry in prepared.inventory.entries}


def test_results_go_to_the_history_and_input_stays(folder: Path) -> None:
    """D3: results of the last job were sent as input and came back as the next job's."""
    found = set_aside(str(folder), JOB)
    assert found.rewritten == ("restart.wfn",)
    assert found.changed == ("notes.txt",)
    history = folder / "leruli.history" / JOB
    moved = {"output.dat", "scratch/deep/x", "joblog.txt"}
    assert files(history) == moved | {"leruli.job", "leruli.bucket", "leruli.folder"}
    assert packed(folder) == {"input.dat", "restart.wfn", "notes.txt"}
    assert provenance_of(str(history)).is_sound
    copy = shutil.copytree(folder, folder.with_name("copy"))
    assert provenance_of(str(copy / "leruli.history" / JOB)).is_copy


def test_with_results_sends_them_and_records_them(folder: Path) -> None:
    set_aside(str(folder), JOB, with_results=True)
    sent = {"input.dat", "restart.wfn", "notes.txt", "output.dat"}
    assert packed(folder, with_results=True) == sent | {"scratch", "scratch/deep", "scratch/deep/x"}
    prepared = prepare(str(folder), SPEC, with_results=True)
    pack(prepared).lock.close()
    record = read_record(str(folder))
    assert record is not None
    assert set(record.inputs) == sent | {"scratch/deep/x"}
    assert set(record.carried) == {"output.dat", "scratch/deep/x"}
    assert set(leftovers_of(str(folder), record).stale) == {"output.dat", "scratch/deep/x"}


def test_files_of_an_earlier_job_are_not_packed_after_its_id_was_deleted(folder: Path) -> None:
    """D11: the second refusal was about joblog.txt."""
    for name in ("leruli.job", "leruli.bucket"):
        (folder / name).unlink()
    for _ in range(2):
        assert packed(folder) == {"input.dat", "restart.wfn", "notes.txt"}
        (folder / "leruli.bucket").unlink(missing_ok=True)
        pack(prepare(str(folder), SPEC)).lock.close()
    assert files(folder) >= {"output.dat", "joblog.txt", "scratch/deep/x"}


def test_an_empty_folder_of_the_input_stays_input(folder: Path) -> None:
    record = read_record(str(folder))
    assert record is not None
    write_record(
        str(folder),
        Record(
            record.bucket,
            record.place,
            record.spec,
            record.inputs,
            record.results,
            (),
            ("scratch",),
        ),
    )
    set_aside(str(folder), JOB)
    assert packed(folder) == {"input.dat", "restart.wfn", "notes.txt", "scratch"}


def test_a_link_in_the_place_of_a_result_is_left_alone(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    shutil.move(folder / "scratch", outside)
    (folder / "scratch").symlink_to(outside)
    set_aside(str(folder), JOB)
    assert (outside / "deep" / "x").exists()


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("is_copy", [True, False])
def test_the_next_try_finishes_after_a_kill_at_any_step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: int, is_copy: bool
) -> None:
    place = Path(shutil.copytree(folder, folder.with_name("copy"))) if is_copy else folder
    before = files(folder)
    left = step

    def counted(real):
        def call(*arguments, **options):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **options)

        return call

    def work() -> None:
        if is_copy:
            leave_original(str(place))
        else:
            set_aside(str(place), JOB if (place / "leruli.job").exists() else None)

    with monkeypatch.context() as patched:
        for owner, name in ((os, "replace"), (os, "unlink"), (Path, "replace"), (Path, "rmdir")):
            patched.setattr(owner, name, counted(getattr(owner, name)))
        with contextlib.suppress(Killed):
            work()
    if is_copy:
        # It counts as a copy until the last step removes the last trace of the original.
        has_traces = any((place / name).exists() for name in ("leruli.job", "leruli.bucket"))
        assert provenance_of(str(place)).is_copy == has_traces
    work()
    assert packed(place) == {"input.dat", "restart.wfn", "notes.txt"}
    assert not (place / "leruli.job").exists()
    assert not (place / "leruli.bucket").exists()
    history = place / "leruli.history" / JOB
    assert (history / "output.dat").read_text() == "energy\n"
    assert (history / "leruli.bucket").exists() == (not is_copy)
    if is_copy:
        assert files(folder) == before


def test_a_newer_job_is_left_alone(folder: Path) -> None:
    with pytest.raises(RefusedError, match="another job at the same time"):
        set_aside(str(folder), "another")
    assert (folder / "output.dat").exists()


def test_the_last_specification_is_remembered_and_options_change_it(folder: Path) -> None:
    assert spec_of(str(folder), {}) == SPEC
    changed = spec_of(str(folder), {"memorymb": 8000})
    assert (changed.cores, changed.memorymb, changed.command) == (4, 8000, SPEC.command)
    set_aside(str(folder), JOB)
    assert spec_of(str(folder), {}) == SPEC  # as after an interruption
    (folder / "leruli.folder").unlink()
    with pytest.raises(RefusedError, match="CODE VERSION COMMAND"):
        spec_of(str(folder), {"code": "psi4", "version": "1.5"})


def test_of_several_folders_with_one_job_one_is_the_original(folder: Path) -> None:
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    (copy / "leruli.folder").unlink()
    found = provenances_of([str(folder), str(copy)])
    assert found[str(folder)].is_sound
    assert found[str(copy)].original == str(folder)
    (folder / "leruli.folder").unlink()
    found = provenances_of([str(folder), str(copy)])
    assert found[str(folder)].twins == (str(copy),)
    assert found[str(copy)].twins == (str(folder),)


def test_copies_of_a_folder_that_is_gone(folder: Path) -> None:
    copies = [Path(shutil.copytree(folder, folder.with_name(name))) for name in ("a", "b")]
    shutil.rmtree(folder)
    assert provenance_of(str(copies[0])).is_sound  # alone it looks like a moved folder
    found = provenances_of([str(one) for one in copies])
    assert all(one.is_copy for one in found.values())


def test_the_record_is_no_input(folder: Path) -> None:
    assert "leruli.folder" not in {
        entry.name for entry in take_inventory(str(folder), ("joblog.txt",)).entries
    }


def test_the_place_is_resolved_also_after_a_link_changed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "mol").mkdir(parents=True)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(name)
        for path in (tmp_path / "link" / "mol", tmp_path / name / "mol" / ".." / "mol"):
            assert Place.of(str(path)).path == str(tmp_path / name / "mol")
    (tmp_path / "mol").symlink_to("two/mol")
    assert Place.of(str(tmp_path / "mol")) == Place.of(str(tmp_path / "two" / "mol"))
