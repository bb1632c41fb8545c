"""The sentences that the troubleshooting pages quote exist in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PAGES = sorted((ROOT / "docs").glob("*/troubleshooting.md"))
_PYTHON = ("leruli_queue", "cli/leruli", "node_setup/leruli_node")
# A value in a sentence of the code, and what the pages write for it.
_VALUE, _ELLIPSIS = "\0", "…"


def quoted(page: Path) -> list[str]:
    """The headings of a page that are a sentence of a program."""
    return re.findall(r"^### `(.+)`$", page.read_text(encoding="utf-8"), re.MULTILINE)


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else _VALUE
                for part in node.values
            )


@cache
def sentences() -> str:
    """All texts of the programs, a line each."""
    found = []
    for folder in _PYTHON:
        for path in (ROOT / folder).rglob("*.py"):
            found += _texts(ast.parse(path.read_text(encoding="utf-8")))
    for path in (ROOT / "node_setup").glob("*.sh"):
        script = path.read_text(encoding="utf-8").replace("\\\n", "").replace('\\"', '"')
        found += re.sub(r"\$\{[^}]*\}|\$\w+", _VALUE, script).splitlines()
    return "\n".join(text.replace("\n", " ") for text in found)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.parent.name)
def test_each_quoted_sentence_is_in_the_code(page: Path) -> None:
    assert quoted(page)
    unknown = [
        sentence
        for sentence in quoted(page)
        if not re.search(".*".join(map(re.escape, sentence.split(_ELLIPSIS))), sentences())
    ]
    assert unknown == []
