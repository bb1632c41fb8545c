"""Tables in docs/ that repeat code are equal to it."""

from __future__ import annotations

import re
from pathlib import Path

from leruli_queue.access.audit import Action
from leruli_queue.access.roles import RULES, Role
from leruli_queue.access.secrets import PATTERN
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
        tuple(re.findall(r"`(\w+)`", row[0]))
        for row in table_rows("developers/states.md")
        if "→" in row[0]
    }
    assert documented == {(a.value, b.value) for a, onward in TRANSITIONS.items() for b in onward}


def test_every_outcome_is_documented() -> None:
    documented = {row[0].strip("`") for row in table_rows("developers/attempts.md")}
    assert {outcome.value for outcome in Outcome} <= documented


def test_every_right_is_documented_and_no_other() -> None:
    documented = {row[0].strip("`"): row[1:] for row in table_rows("admins/security.md")}
    assert documented == {
        call: [
            ", ".join(f"`{field}`" for field in rule.fields),
            *(rule.may.get(role, "") for role in Role),
        ]
        for call, rule in RULES.items()
    }


def test_the_documented_expression_for_scanners_is_the_one_in_use() -> None:
    text = (DOCS / "admins/security.md").read_text(encoding="utf-8")
    assert f"\n    {PATTERN}\n" in text


def test_every_call_is_described() -> None:
    described = (DOCS / "admins/api.md").read_text(encoding="utf-8") + (
        DOCS / "admins/operate.md"
    ).read_text()
    assert [call for call in RULES if call not in described] == []


def test_every_audited_action_is_documented() -> None:
    text = (DOCS / "admins/api.md").read_text(encoding="utf-8")
    assert [action for action in Action if f"`{action}`" not in text] == []


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in table_rows("admins/settings.md")}
    for name, field in Settings.model_fields.items():
        assert f"{PREFIX}{name.upper()}" in documented
        shown = documented[f"{PREFIX}{name.upper()}"]
        default = "required" if field.is_required() else field.default
        if isinstance(default, list):
            default = ",".join(default)
        assert shown == ("" if default is None else str(default)), name


def test_every_attack_of_the_security_page_has_a_test() -> None:
    section = (DOCS / "admins/security.md").read_text(encoding="utf-8").split("\n## ")[1]
    named = set(re.findall(r"`(test_\w+)`", section))
    tests = Path(__file__).parents[2]
    there = {
        name
        for path in tests.rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    assert named - there == set()
