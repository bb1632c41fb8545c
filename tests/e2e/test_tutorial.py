"""The pages of docs/users, typed as printed by a new user on a terminal of 80 columns.

LERULI_TEST_WRITE_PAGES=1 writes what the commands print into the pages, after a change of a
sentence. Read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from e2e_world import StackOfTest, read_exports
from tutorial_world import COLUMNS, Walker, rewritten, steps_of

USERS = Path(__file__).parents[2] / "docs" / "users"
PAGES = ("first-calculation.md", "many-calculations.md", "when-it-failed.md")
WRITES = os.environ.get("LERULI_TEST_WRITE_PAGES")

# A scan of 6 in place of 30 folders, and no longer pauses than these need.
FEWER = {
    "0.710 0.010 1.000": "0.750 0.050 1.000",
    "30 ": "6 ",
    "120 files": "24 files",
    "Purged 32": "Purged 8",
    "sleep 10": "sleep 1",
}


@pytest.fixture
def new_user(stack: StackOfTest, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of somebody who has no jobs yet."""
    folder = stack.data
    if "psi4:1.3.2" not in stack.leruli(folder, "list-codes").stdout.split():
        done = stack.leruli(folder, "publish-code", "psi4", "1.3.2")
        assert done.returncode == 0, done.stderr
    admin = read_exports(stack.data / "admin.sh")["LERULI_ADMIN_SECRET"]
    name = request.node.callspec.params["page"].removesuffix(".md")
    secret = stack.leruli(
        folder, "group", "create-user", "--quiet", name, LERULI_ADMIN_SECRET=admin
    ).stdout.strip()
    return stack.user | {"LERULI_API_SECRET": secret}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_a_page(page: str, new_user: dict[str, str], tmp_path: Path) -> None:
    text = (USERS / page).read_text()
    walker = Walker(tmp_path, new_user, {} if WRITES else FEWER)
    printed = []
    for step in steps_of(text):
        printed.append(walker.type(step))
        if not WRITES:
            walker.check(step, printed[-1])
    if WRITES:
        (USERS / page).write_text(rewritten(text, printed))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_fits_on_a_terminal(page: str) -> None:
    lines = [line for step in steps_of((USERS / page).read_text()) for line in step.printed]
    assert [line for line in lines if len(line) > COLUMNS] == []
