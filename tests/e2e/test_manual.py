"""The manual's own lines, typed as printed (with the version that Debian has)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from e2e_world import StackOfTest, wait_for

ENERGY = -76.24007988  # hartree, psi4 1.3.2

INPUT = """echo "molecule{
o
h 1 roh
h 1 roh 2 ahoh

roh = 0.957
ahoh = 104.5
}

set basis cc-pVDZ
set ccenergy print 3
set scf print 1
energy('ccsd')" > input.dat
"""


def test_the_manuals_calculation(stack: StackOfTest, folder: Path) -> None:
    def shell(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=stack.user, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # Another file of tests that shares the stack may have published it.
    again = " --replace" if "psi4:1.3.2" in shell("leruli list-codes").split() else ""
    shell(f"leruli publish-code psi4 1.3.2{again}")
    assert "psi4:1.3.2" in shell("leruli list-codes").split()
    shell(INPUT)
    shell("leruli task-submit psi4 1.3.2 psi4 input.dat")
    assert (folder / "leruli.job").read_text().strip()
    assert (folder / "leruli.bucket").read_text().strip()
    seen: set[str] = set()

    def completed() -> bool:
        # A state may have a reason behind it: "received: waiting for its turn…".
        seen.add(shell("leruli task-status").partition(":")[0].strip())
        return "completed" in seen

    wait_for(completed, seconds=180, what="the calculation is completed")
    assert seen <= {"received", "submitted", "running", "completed"}
    shell("leruli task-get")
    found = re.search(r"CCSD total energy\s*=\s*(-?\d+\.\d+)", (folder / "output.dat").read_text())
    assert found is not None
    assert float(found[1]) == pytest.approx(ENERGY, abs=1e-6)
    shell("leruli task-get")  # "in case you want to download them again"
    shell("leruli task-purge")
    assert (folder / "output.dat").exists()  # "does not affect your downloaded copy"
    gone = stack.leruli(folder, "task-get")
    assert gone.returncode != 0
