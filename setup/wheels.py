"""Fetch the wheels of a requirements file for several versions of CPython on Linux.

    wheels.py REQUIREMENTS FOLDER MACHINE VERSION…      MACHINE as `uname -m` says it

pip alone cannot do this: for another Python than its own, it still evaluates markers such as
`; python_version < "3.10"` for its own Python. So this script evaluates the markers and gives pip
the remaining pins. pip checks the hash of every file.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

# glibc 2.28, which is older than the glibc that the package's nomad needs.
_PLATFORMS = ("manylinux_2_28", "manylinux2014", "manylinux1")
# Patch versions to evaluate markers for, as some markers differ between 3.11.2 (Debian 12, the
# oldest of any distribution) and 3.11.3.
_PATCHES = ("2", "99")


def pins_for(text: str, version: str, machine: str) -> str:
    """Return the pins for a Python such as 3.11.2, with hashes and without markers."""
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": version,
        "python_version": version.rpartition(".")[0],
        "sys_platform": "linux",
    }
    chosen = []
    for pin in re.findall(r"^[A-Za-z0-9].*(?:\n    --hash.*)*", text, re.MULTILINE):
        first, _, hashes = pin.partition("\n")
        requirement = Requirement(first.rstrip("\\ "))
        if requirement.marker is None or requirement.marker.evaluate(environment):
            chosen.append(f"{requirement.name}{requirement.specifier} \\\n{hashes}")
    return "\n".join(chosen) + "\n"


def fetch(pins: str, folder: Path, version: str, machine: str) -> None:
    """Fetch the wheels of these pins. pip prints the reason of a failure."""
    abi = "cp" + "".join(version.split(".")[:2])
    wanted = ["--python-version", version, "--implementation", "cp"]
    for name in (abi, "abi3", "none"):
        wanted += ["--abi", name]
    for platform in _PLATFORMS:
        wanted += ["--platform", f"{platform}_{machine}"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(pins)
        file.flush()
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download"),
                *("--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
                *(*wanted, "--dest", folder, "--requirement", file.name),
            ],
            check=True,
        )


def main(arguments: list[str]) -> None:
    """Fetch the wheels for each version."""
    requirements, folder, machine, *versions = arguments
    text = Path(requirements).read_text(encoding="utf-8")
    for version in versions:
        done = ""
        for patch in _PATCHES:
            pins = pins_for(text, f"{version}.{patch}", machine)
            if pins != done:
                fetch(pins, Path(folder), f"{version}.{patch}", machine)
            done = pins


if __name__ == "__main__":
    main(sys.argv[1:])
