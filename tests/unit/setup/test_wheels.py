"""setup/wheels.py: which pins apply to which Python."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PINS = """\
# Made by "make pins". Do not edit.
anyio==4.12.1 ; python_full_version < '3.10' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via httpx
anyio==4.16.0 ; python_full_version >= '3.10' \\
    --hash=sha256:cc
    # via httpx
late==1.0 ; python_full_version < '3.11.3' \\
    --hash=sha256:dd
pywin32==312 ; sys_platform == 'win32' \\
    --hash=sha256:ee
certifi==2026.1 \\
    --hash=sha256:ff
"""


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "setup/wheels.py"
    spec = importlib.util.spec_from_file_location("wheels", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheels"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("3.9.2", ["anyio==4.12.1", "late==1.0", "certifi==2026.1"]),
        ("3.11.2", ["anyio==4.16.0", "late==1.0", "certifi==2026.1"]),
        ("3.11.99", ["anyio==4.16.0", "certifi==2026.1"]),
    ],
)
def test_markers_are_evaluated_for_the_wanted_python(
    wheels: ModuleType, version: str, names: list[str]
) -> None:
    lines = wheels.pins_for(PINS, version, "x86_64").splitlines()
    assert [line.split(" ")[0] for line in lines if line[0] != " "] == names
    assert ";" not in "".join(lines)


def test_every_hash_stays_with_its_pin(wheels: ModuleType) -> None:
    said = wheels.pins_for(PINS, "3.9.2", "x86_64")
    assert "anyio==4.12.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n" in said


def test_the_pins_of_a_node_have_a_file_for_every_python(wheels: ModuleType) -> None:
    """Each package has exactly one pin for each Python of a node."""
    text = (Path(__file__).resolve().parents[3] / "requirements/node.txt").read_text()
    for version in ("3.9.2", "3.10.99", "3.11.2", "3.12.3", "3.13.5"):
        lines = wheels.pins_for(text, version, "x86_64").splitlines()
        names = [line.split("==")[0] for line in lines if line[0] != " "]
        assert len(names) == len(set(names)) > 10
        assert {"httpx", "minio", "docker"} <= set(names)
