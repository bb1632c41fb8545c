"""Tables in docs/ that say what code says: each is compared with it."""

from __future__ import annotations

import re
from pathlib import Path

from leruli_queue.jobs.outcomes import Outcome
from leruli_queue.jobs.states import TRANSITIONS
from leruli_queue.settings import PREFIX, Settings

DOCS = Path(__file__).parents[3] / "docs"


def table_rows(name: str) -> list[list[str]]:
    text = (DOCS / name).read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_every_transition_is_documented_and_no_other() -> None:
    documented = {
        tuple(re.findall(r"`(\w+)`", row[0])) for row in table_rows("states.md") if "→" in row[0]
    }
    assert documented == {(a.value, b.value) for a, onward in TRANSITIONS.items() for b in onward}


def test_every_outcome_is_documented() -> None:
    documented = {row[0].strip("`") for row in table_rows("attempts.md")}
    assert {outcome.value for outcome in Outcome} <= documented


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in table_rows("settings.md")}
    for name, field in Settings.model_fields.items():
        assert f"{PREFIX}{name.upper()}" in documented
        shown = documented[f"{PREFIX}{name.upper()}"]
        default = "required" if field.is_required() else field.default
        if isinstance(default, list):
            default = ",".join(default)
        assert shown == ("" if default is None else str(default)), name
