"""setup/demo.py: how it reads the output of programs."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "setup/demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_energy_as_psi4_prints_it(demo: ModuleType) -> None:
    output = (
        "    CCSD correlation energy               =   -0.213\n"
        "      * CCSD total energy                     =  -76.240079880287666\n"
    )
    assert demo.find_energy(output) == -76.240079880287666


def test_no_energy(demo: ModuleType) -> None:
    with pytest.raises(demo.DemoError, match="no line 'CCSD total energy'"):
        demo.find_energy("psi4 died")


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("completed\n", "completed"),
        ("received: waiting for a node; none is running\n", "received"),
        ("Status: failed (exit code 1)", "failed"),
    ],
)
def test_state(demo: ModuleType, answer: str, state: str) -> None:
    assert demo.find_state(answer) == state


def test_no_state(demo: ModuleType) -> None:
    with pytest.raises(demo.DemoError, match="printed no state"):
        demo.find_state("hello")


def test_environment_of_a_sourced_file(demo: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "env.sh"
    script.write_text("export LERULI_BASEURL='a b'\nLERULI_S3_ACCESS=x\n")
    env = demo.sourced(script)
    assert (env["LERULI_BASEURL"], env["LERULI_S3_ACCESS"]) == ("a b", "x")


def test_steps_of_the_installation_come_first(demo: ModuleType, tmp_path: Path) -> None:
    noted = tmp_path / "steps"
    noted.write_text("41\tmaking the image\n")
    steps = demo.Steps(noted)
    with steps.step("starting"):
        pass
    assert [name for name, _ in steps.taken] == ["making the image", "starting"]
    assert steps.taken[0][1] == 41.0


def test_a_failing_command_is_an_error_with_its_output(demo: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(demo.DemoError, match=r"exited with code 3:\nbad luck"):
        demo.ask(["bash", "-c", "echo bad luck >&2; exit 3"], {"PATH": "/usr/bin:/bin"}, tmp_path)


def test_background_processes_of_a_command_do_not_delay_the_demo(
    demo: ModuleType, tmp_path: Path
) -> None:
    began = time.monotonic()
    demo.run(["bash", "-c", "sleep 20 &"], {"PATH": "/usr/bin:/bin"}, tmp_path)
    assert time.monotonic() - began < 10
    with pytest.raises(demo.DemoError, match="exited with code 4"):
        demo.run(["bash", "-c", "exit 4"], {"PATH": "/usr/bin:/bin"}, tmp_path)
