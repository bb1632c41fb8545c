"""docs/users/folders.md: what each command does in a folder that was copied, moved, edited, ..."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from leruli.folder.record import FileState, add_results

DOCS = Path(__file__).parents[3] / "docs" / "users" / "folders.md"
WHAT = ("psi4", "1.5", "psi4", "input.dat")

COMMANDS = {
    "task-submit": ("task-submit", *WHAT),
    "task-submit --batch": ("task-submit", "--batch", "{name}/", *WHAT),
    "task-resubmit": ("task-resubmit",),
    "task-status": ("task-status",),
    "task-cancel": ("task-cancel",),
    "task-get": ("task-get",),
    "task-purge": ("task-purge",),
}
# These do the same with --batch, except for folders without a job.
BATCHES = ("task-status", "task-cancel", "task-get", "task-purge")
WITHOUT_JOB = {"task-status": 1, "task-cancel": 0, "task-get": 0, "task-purge": 0}

# Exit codes, in the order of the commands.
OWN = (1, 0, 0, 0, 0, 0, 0)
TOLD = (1, 1, 1, 1, 1, 1, 1)


@dataclass(frozen=True)
class Case:
    """A folder in a state, its original if it is a copy, and words of the expected report."""

    folder: Path
    original: Path | None = None
    told: str = ""


def own(mol: Path) -> Case:
    return Case(mol)


def copied(mol: Path) -> Case:
    copy = Path(shutil.copytree(mol, mol.with_name("mol-1.00")))
    (copy / "input.dat").write_text("r = 1.00\n")
    return Case(copy, mol, "mol-0.96")


def moved(mol: Path) -> Case:
    (mol.parent / "elsewhere").mkdir()
    return Case(Path(shutil.move(mol, mol.parent / "elsewhere" / "mol")))


def restored(mol: Path) -> Case:
    backup = Path(shutil.copytree(mol, mol.with_name("backup")))
    shutil.rmtree(mol)
    shutil.copytree(backup, mol)
    shutil.rmtree(backup)
    return Case(mol)


def half_fetched(mol: Path) -> Case:
    (mol / "output.dat").unlink()
    return Case(mol)


def edited(mol: Path) -> Case:
    (mol / "input.dat").write_text("r = 1.50\n")
    return Case(mol, told="input.dat changed")


def committed(mol: Path) -> Case:
    clone = Path(shutil.copytree(mol, mol.with_name("clone"), copy_function=shutil.copyfile))
    shutil.rmtree(mol)
    return Case(clone)


def ignored(mol: Path) -> Case:
    clone = committed(mol).folder
    for path in clone.glob("leruli.*"):
        path.unlink()
    (clone / "joblog.txt").unlink()
    return Case(clone)


def without_record(mol: Path) -> Case:
    (mol / "leruli.folder").unlink()
    return Case(mol)


def without_bucket(mol: Path) -> Case:
    (mol / "leruli.bucket").unlink()
    return Case(mol)


def interrupted(mol: Path) -> Case:
    (mol / "leruli.job").unlink()
    return Case(mol)


ROWS = {
    "its own": (own, OWN),
    "copied (`cp -r`)": (copied, TOLD),
    "moved or renamed": (moved, OWN),
    "restored from a backup": (restored, OWN),
    "half-fetched": (half_fetched, (1, 0, 0, 0, 0, 0, 1)),
    "edited (an input changed)": (edited, (1, 1, 0, 1, 0, 1, 1)),
    "checked out by git, `leruli.*` committed": (committed, OWN),
    "checked out by git, `leruli.*` ignored": (ignored, (0, 0, 1, 4, 4, 4, 4)),
    "without a record (published client)": (without_record, (1, 0, 1, 0, 0, 0, 0)),
    "without `leruli.bucket`": (without_bucket, OWN),
    "interrupted": (interrupted, (0, 0, 0, 0, 0, 0, 0)),
}


def test_the_table_has_the_rows_and_columns_of_this_test() -> None:
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    [start] = [n for n, cells in enumerate(table) if cells[0] == "the folder is"]
    assert [cell.strip("` ") for cell in table[start][1:]] == list(COMMANDS)
    assert [cells[0] for cells in table[start + 1 :]] == list(ROWS)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()
    }


@pytest.mark.parametrize("command", [*COMMANDS, *(f"{name} --batch" for name in BATCHES)])
@pytest.mark.parametrize("row", ROWS)
def test_a_cell(row, command, real, tmp_path, queue, group, store, monkeypatch, capsys):
    from leruli.cli import run

    mol = tmp_path / "mol-0.96"
    mol.mkdir()
    (mol / "input.dat").write_text("r = 0.96\n")
    monkeypatch.chdir(mol)
    assert run(["task-submit", *WHAT]) == 0
    bucket = (mol / "leruli.bucket").read_text().strip()
    job = (mol / "leruli.job").read_text().strip()
    fetched = {}
    for name in ("output.dat", "joblog.txt"):
        store.put(bucket, name, name.encode())
        (mol / name).write_text(name)
        fetched[name] = FileState.of(str(mol / name))
    add_results(str(mol), bucket, fetched)
    queue.sql("UPDATE jobs SET state = 'completed', ended_at = now() WHERE id = $1", job)

    build, codes = ROWS[row]
    case = build(mol)
    before = snapshot(case.folder)
    original = snapshot(case.original) if case.original else {}
    verb = command.removesuffix(" --batch") if command not in COMMANDS else command
    expected = codes[list(COMMANDS).index(verb)]
    words = [word.format(name=case.folder.name) for word in COMMANDS[verb]]
    if verb != command:
        words += ["--batch", f"{case.folder.name}/"]
        expected = WITHOUT_JOB[verb] if expected == 4 else expected
    monkeypatch.chdir(case.folder.parent if "--batch" in words else case.folder)
    capsys.readouterr()

    code = run(words)

    # task-status --batch reports in its table, on standard output.
    told = "".join(capsys.readouterr())
    assert code == expected, told
    if code == 1 and case.told:
        assert case.told in told
    # No local change is lost: each file is in its place or in the history.
    after = snapshot(case.folder)
    for name, content in before.items():
        if not name.startswith("leruli."):
            assert content in (after.get(name), after.get(f"leruli.history/{job}/{name}"))
    # The job is untouched: its state, its bucket, and the folder that it belongs to.
    assert queue.sql("SELECT state FROM jobs WHERE id = $1", job)[0][0] == "completed"
    if verb == "task-purge" and codes[-1] == 0:
        assert not store.has_bucket(bucket)
    else:
        there = {item.name for item in store.list(bucket)}
        assert there == {"run.tgz", "output.dat", "joblog.txt"}
    if case.original:
        assert snapshot(case.original) == original
        assert len(queue.sql("SELECT 1 FROM jobs WHERE group_id = $1", group.id)) == 1


def test_every_cell_says_told_where_the_exit_code_is_1() -> None:
    text = DOCS.read_text()
    for row in ("copied (`cp -r`)", "edited (an input changed)"):
        [line] = re.findall(rf"^\| {re.escape(row)} \|.*$", text, re.MULTILINE)
        cells = line.strip("| ").split(" | ")[1:]
        for cell, code in zip(cells, ROWS[row][1], strict=True):
            assert (code == 1) == cell.startswith("told")
