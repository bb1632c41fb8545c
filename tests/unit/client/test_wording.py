"""Sentences about one thing are in the singular."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from leruli.wording import counted

CLIENT = Path(__file__).parents[3] / "cli" / "leruli"

# A number before one of these words may be 1.
PLURALS = re.compile(
    r" (of them |of the )?(attempts|bytes|buckets|codes|copies|cores|days|entries|files|folders|"
    r"groups|hours|images|inputs|jobs|lines|machines|minutes|nodes|objects|results|rows|seconds|"
    r"tries|users|versions)\b"
)


def test_counted() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert counted(1, "copy", "copies") == "1 copy"
    assert counted(3, "copy", "copies") == "3 copies"


def before_plurals(code: str) -> Iterator[str]:
    """Yield each expression before a plural in an f-string, except constants."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for part, rest in zip(node.values, node.values[1:], strict=False):
            if not isinstance(part, ast.FormattedValue) or not isinstance(rest, ast.Constant):
                continue
            if part.format_spec is not None:  # decimals: "1.0 cores"
                continue
            value = ast.unparse(part.value)
            if PLURALS.match(str(rest.value)) and not value.isupper():
                yield f"{value}{rest.value}"


def test_no_sentence_puts_a_number_before_a_plural() -> None:
    """Sentences use `counted`, which knows the singular."""
    assert list(before_plurals('f"{n} files of {MOST} jobs"')) == ["n files of "]
    found = {
        str(path.relative_to(CLIENT)): told
        for path in sorted(CLIENT.rglob("*.py"))
        if (told := list(before_plurals(path.read_text())))
    }
    assert found == {}
