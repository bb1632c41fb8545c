"""Rules for all set-up files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PINS = sorted((ROOT / "requirements").glob("*.txt"))


def test_help_lists_every_target() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = re.findall(r"^make ([\w-]+) +\S", done.stdout, re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == targets
    assert {"help", "demo", "test", "lint", "pins", "tools", "images", "dist", "clean"} <= set(
        listed
    )


def test_each_file_in_the_list_of_the_longest_tests_exists() -> None:
    """A renamed file would start late, and run alone at the end."""
    tests = ROOT / "tests"
    named = re.findall(r'"(\w+/\S+\.py)"', (tests / "conftest.py").read_text())
    assert len(named) > 5
    assert [name for name in named if not (tests / name).is_file()] == []


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.name)
def test_pins_have_hashes_and_no_address(file: Path) -> None:
    text = file.read_text()
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an index or find-links line"
    for pin in re.findall(r"^[a-z].*(?:\n    --hash.*)*", text, re.MULTILINE):
        assert re.match(r"[a-z0-9._-]+==\S+", pin), pin
        assert "--hash=sha256:" in pin, pin


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [
        ("node_setup/nomad", r"^tool \S+$"),
        ("objectstore", r"^require github\.com/versity/versitygw v\S+$"),
    ],
)
def test_go_modules_are_pinned(folder: str, wanted: str) -> None:
    """go.mod names the main module, and every module has a sum: -mod=readonly needs no more."""
    module = (ROOT / folder / "go.mod").read_text()
    assert re.search(wanted, module, re.MULTILINE)
    assert len((ROOT / folder / "go.sum").read_text().splitlines()) > 100
