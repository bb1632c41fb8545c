"""task-get --with-input at the real service and storage."""

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest
from folder_world import INPUT, LONG_AGO, make_folder, submit_folder


@pytest.fixture
def folder(real, queue, store, tmp_path):
    """A folder that was submitted; see folder_world."""
    path = tmp_path / "mol-0.96"
    make_folder(path)
    (path / "basis" / "empty").mkdir(parents=True)
    (path / "basis" / "h.gbs").write_text("basis\n")
    return submit_folder(real, queue, store, path)


def test_an_empty_folder_gets_the_input_as_it_was_submitted(real, folder, tmp_path):
    folder.ends(input_dat=b"r = 0.97\n", output_dat=b"E\n")
    other = tmp_path / "colleague"
    other.mkdir()

    done = real("task-get", "--with-input", "--job", folder.job, "--json", cwd=other)

    assert done.returncode == 0, done.stderr
    mark = f"leruli-{folder.job[-8:]}"
    found = {str(path.relative_to(other)) for path in other.rglob("*")}
    assert found == {
        *("input.dat", f"input.dat.{mark}-input", "output.dat", "link.dat", "go.sh"),
        *("basis", "basis/empty", "basis/h.gbs"),
    }
    assert (other / "input.dat").read_text() == "r = 0.97\n"
    assert (other / f"input.dat.{mark}-input").read_bytes() == INPUT
    script = (other / "go.sh").stat()
    assert (script.st_mode & 0o777, script.st_mtime_ns) == (0o755, LONG_AGO)
    assert "go.sh" in json.loads(done.stdout)["input"]
    assert real("task-get", "--with-input", "--job", folder.job, cwd=other).returncode == 0
    assert {str(path.relative_to(other)) for path in other.rglob("*")} == found


def test_in_its_own_folder_only_missing_input_is_fetched(real, folder):
    folder.ends()
    (folder.path / "go.sh").unlink()
    done = real("task-get", "--with-input", cwd=folder.path)
    assert done.returncode == 0, done.stderr
    assert (folder.path / "go.sh").exists()
    assert (folder.path / "link.dat").is_symlink()
    assert not list(folder.path.rglob("*.leruli-*"))


def archive(*members: tuple[str, bytes, bytes]) -> bytes:
    """An archive of members: name, type and content."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as writer:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "../outside"
            writer.addfile(info, io.BytesIO(content))
    return made.getvalue()


def test_an_archive_that_would_do_harm(real, folder, tmp_path):
    """Any user of the group may have written it."""
    folder.ends(output_dat=b"E\n")
    names = ("../out", "/tmp/out-of-the-test", ".git/config", "leruli.job", "a/../../out")
    harmful = [(name, tarfile.REGTYPE, b"evil") for name in names]
    links = [("link", tarfile.SYMTYPE, b""), ("hard", tarfile.LNKTYPE, b"")]
    content = archive(*harmful, *links, ("link/x", tarfile.REGTYPE, b"x"))
    folder.store.put(folder.bucket, "run.tgz", content)
    other = tmp_path / "colleague"
    other.mkdir()

    done = real("task-get", "--with-input", "--job", folder.job, cwd=other)

    assert done.returncode == 1
    assert all(f"{name} was not fetched" in done.stderr for name in (*names, "link", "hard"))
    assert (other / "link" / "x").read_text() == "x"
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in other.iterdir()) == ["link", "output.dat"]


CUT_SHORT = archive(("a", tarfile.REGTYPE, os.urandom(9000)))[:5000]


@pytest.mark.parametrize("content", [b"no archive", CUT_SHORT], ids=["none", "cut short"])
def test_a_damaged_archive(real, folder, tmp_path, content):
    folder.ends(output_dat=b"E\n")
    folder.store.put(folder.bucket, "run.tgz", content)
    done = real("task-get", "--with-input", "--job", folder.job, cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot be unpacked" in done.stderr
    assert (tmp_path / "output.dat").exists()


def test_headers_without_end_are_not_held_in_memory(real, folder, tmp_path):
    folder.ends(output_dat=b"E\n")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=tarfile.PAX_FORMAT) as writer:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * 50_000_000}
        writer.addfile(info)
    folder.store.put(folder.bucket, "run.tgz", made.getvalue())
    done = real("task-get", "--with-input", "--job", folder.job, cwd=tmp_path)
    assert done.returncode == 1
    assert "headers that are too long" in done.stderr
