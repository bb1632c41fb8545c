"""images/build.sh: which images are made again, with a fake of Docker's command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., subprocess.CompletedProcess[str]]
Program = Callable[[str, str], Path]

# The fake stores the label of each image in a file of that name.
DOCKER = """
cd "$DOCKER_STATE"
case "$1 $2" in
"version "*) echo 20.10 ;;
"image inspect") [[ -f "$5" ]] && cat "$5" ;;
"import "*|"commit "*) echo "$1" >>calls
    label="$(printf '%s\\n' "$@" | sed -n 's/^LABEL .*=//p')"; printf '%s' "$label" >"${@: -1}" ;;
"create "*) echo a-container ;;
esac
"""


@pytest.fixture
def state(tmp_path: Path, program: Program) -> Path:
    """Return the folder in which the fake stores its labels."""
    folder = tmp_path / "docker"
    folder.mkdir()
    program("docker", DOCKER)
    program(
        "mmdebstrap", 'for word in "$@"; do case $word in *.tar) echo tar >"$word";; esac; done'
    )
    return folder


def test_made_once_and_again_when_the_recipe_changed(
    script: Script, state: Path, tree: Path
) -> None:
    def build() -> list[str]:
        done = script("images/build.sh", "leruli-test-user", DOCKER_STATE=str(state))
        assert done.returncode == 0, done.stderr
        return (state / "calls").read_text().split()

    assert build() == ["import", "commit"]
    assert build() == ["import", "commit"]
    with (tree / "images/leruli-test-user.recipe").open("a") as recipe:
        recipe.write("# changed\n")
    assert build() == ["import", "commit", "commit"]
    with (tree / "images/leruli-test.recipe").open("a") as recipe:
        recipe.write("# changed\n")
    assert build() == ["import", "commit", "commit", "import", "commit"]


def test_a_failed_root_file_system_gives_no_image(
    script: Script, state: Path, program: Program
) -> None:
    program("mmdebstrap", "echo E: no such package >&2; exit 1")
    done = script("images/build.sh", "psi4", DOCKER_STATE=str(state))
    assert done.returncode == 1
    assert "E: no such package" in done.stderr
    assert not (state / "calls").exists()


def test_an_unknown_name_is_refused_with_a_list_of_the_names(script: Script, state: Path) -> None:
    done = script("images/build.sh", "orca", DOCKER_STATE=str(state))
    assert done.returncode == 1
    assert "no recipe for an image 'orca'" in done.stderr
    assert "psi4" in done.stderr
