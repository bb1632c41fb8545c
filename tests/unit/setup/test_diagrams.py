"""The diagrams of docs/developers are those that setup/diagrams.py draws, and true."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from leruli_queue.jobs.states import TRANSITIONS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def diagrams() -> ModuleType:
    spec = importlib.util.spec_from_file_location("diagrams", ROOT / "setup/diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["diagrams"] = module
    spec.loader.exec_module(module)
    return module


def test_each_diagram_is_the_one_that_is_drawn(diagrams: ModuleType) -> None:
    """After a change: .venv/bin/python setup/diagrams.py."""
    committed = {name: (diagrams.FOLDER / name).read_text("utf-8") for name in diagrams.DRAWN}
    assert committed == {name: draw() for name, draw in diagrams.DRAWN.items()}


def test_the_diagram_of_states_has_every_transition_and_no_other(diagrams: ModuleType) -> None:
    committed = (diagrams.FOLDER / "states.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r'<path id="(\w+)-(\w+)"', committed))
    assert drawn == {(a.value, b.value) for a, onward in TRANSITIONS.items() for b in onward}
