"""Whether a folder holds its own job, is a copy, or has an edited input."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from leruli.errors import RefusedError
from leruli.folder.provenance import Provenance, provenance_of
from leruli.folder.record import RECORD_FILE, FileState, Place, Record, add_results, write_record

BUCKET = "2c3f9a52-51f0-4f0c-8a5e-0d9f8f1f2a11"
JOB = "01a23273-0000-7000-8000-0000000000aa"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that was submitted."""
    made = tmp_path / "mol-0.96"
    made.mkdir()
    (made / "input.dat").write_text("r = 0.96\n")
    (made / "basis").mkdir()
    (made / "basis" / "h.gbs").write_text("basis\n")
    inputs = {name: FileState.of(str(made / name)) for name in ("input.dat", "basis/h.gbs")}
    write_record(str(made), Record(BUCKET, Place.of(str(made)), {"code": "psi4"}, inputs))
    (made / "leruli.bucket").write_text(f"{BUCKET}\n")
    (made / "leruli.job").write_text(f"{JOB}\n")
    return made


def provenance(folder: Path) -> Provenance:
    return provenance_of(str(folder))


def copied(folder: Path, name: str = "mol-1.00") -> Path:
    return Path(shutil.copytree(folder, folder.with_name(name)))


def test_a_folder_with_its_own_job(folder: Path) -> None:
    assert provenance(folder).is_sound
    assert provenance(folder).record is not None


def test_a_copy_is_recognised_with_its_original(folder: Path) -> None:
    """D1: copies were treated as submitted folders."""
    copy = provenance(copied(folder))
    assert copy.is_copy
    assert copy.original == str(folder)
    with pytest.raises(RefusedError, match=r"holds the job of .*mol-0\.96.*--new"):
        copy.check_own("mol-1.00")
    assert provenance(folder).is_sound


@pytest.mark.parametrize("gone", ["leruli.bucket", "leruli.job"])
def test_a_copy_is_recognised_when_one_file_of_the_original_is_gone(
    folder: Path, gone: str
) -> None:
    copy = copied(folder)
    (folder / gone).unlink()
    assert provenance(copy).is_copy


def test_a_copy_of_a_purged_or_interrupted_folder_is_recognised(folder: Path) -> None:
    (folder / "leruli.bucket").unlink()
    assert provenance(copied(folder, "purged")).is_copy
    (folder / "leruli.bucket").write_text(BUCKET)
    (folder / "leruli.job").unlink()
    assert provenance(copied(folder, "interrupted")).is_copy


def test_a_moved_renamed_or_restored_folder_is_its_own(folder: Path) -> None:
    moved = folder.rename(folder.with_name("renamed"))
    assert provenance(moved).is_sound
    # On another disk or from a backup: another inode, and nothing is at the old path.
    elsewhere = copied(moved, "elsewhere")
    shutil.rmtree(moved)
    assert provenance(elsewhere).is_sound
    restored = copied(elsewhere, "mol-0.96")
    assert provenance(restored).is_sound


def test_another_job_at_the_old_path_makes_no_copy_of_a_moved_folder(folder: Path) -> None:
    moved = copied(folder)
    (folder / "leruli.bucket").write_text("another-bucket\n")
    (folder / "leruli.job").write_text("another\n")
    assert provenance(moved).is_sound


def test_an_edited_input_is_named(folder: Path) -> None:
    """D1: edited inputs were counted as calculated."""
    (folder / "input.dat").write_text("r = 1.00\n")
    found = provenance(folder)
    assert found.edited == ("input.dat",)
    assert not found.is_sound
    assert "input.dat changed after the job of this folder" in found.sentence(os.curdir)


def test_a_new_date_and_new_files_and_lost_files_are_no_edit(folder: Path) -> None:
    os.utime(folder / "input.dat", (0, 0))
    (folder / "plot.png").write_text("new")
    (folder / "basis" / "h.gbs").unlink()
    assert provenance(folder).is_sound


def test_an_input_that_the_job_rewrote_is_no_edit_once_it_is_fetched(folder: Path) -> None:
    path = folder / "input.dat"
    path.write_text("restart\n")
    assert provenance(folder).edited
    add_results(str(folder), BUCKET, {"input.dat": FileState.of(str(path))})
    assert provenance(folder).is_sound
    path.write_text("restarT\n")
    assert provenance(folder).edited == ("input.dat",)


def test_results_of_another_bucket_are_not_noted(folder: Path) -> None:
    add_results(str(folder), "another", {"x": FileState(0, 0, "")})
    found = provenance(folder).record
    assert found is not None
    assert not found.results


def test_after_another_client_submitted_it_nothing_is_known(folder: Path) -> None:
    (folder / "leruli.bucket").write_text("0b7f2b9c-5e0e-4b4c-9b44-08a1c6a1b1ff\n")
    (folder / "input.dat").write_text("another\n")
    assert provenance(folder) == Provenance()


def test_without_a_job_or_a_record_nothing_is_known(folder: Path) -> None:
    (folder / RECORD_FILE).rename(folder / "aside")
    assert provenance(folder) == Provenance()
    (folder / "aside").rename(folder / RECORD_FILE)
    (folder / "leruli.job").unlink()
    (folder / "leruli.bucket").unlink()
    assert provenance(folder) == Provenance()


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "bucket": "x"}'])
def test_a_broken_record_is_an_error(folder: Path, text: str) -> None:
    (folder / RECORD_FILE).write_text(text)
    with pytest.raises(RefusedError, match="not a record that this client can read"):
        provenance(folder)
