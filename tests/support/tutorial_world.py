"""Pages of docs/users as a person follows them: commands, and what they print on 80 columns.

A page is typed from its top. ```bash is a script to paste. In ```console a line after "$ " is a
command, and the lines below it are what it prints; "…" stands for the rest. Blocks behind
"<!-- not walked -->" are left out.
"""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from terminal_world import run_on_terminal

COLUMNS = 80
REST = "…"
NOT_WALKED = "<!-- not walked -->\n"
UNDER_WAY = {"received", "submitted", "running"}

_BLOCK = re.compile(rf"({NOT_WALKED})?^```(bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Lines of task-status that are always there, and lines that show the progress of the job.
_STEADY = ("job ", "name ", "command ", "image ", "limits ")

# Text that differs from run to run, and its replacement in a comparison.
_PLACEHOLDERS = (
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
    (r"\b[0-9a-f]{8}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"[\d,.]+ (s|min|h|d)\b", "N s"),
    (r"[\d,.]+ (MB|bytes)\b", r"N \1"),
    (r"\(\d+/s\)", "(N/s)"),
    (r", [\d.]+ cores on average", ""),
    (r"^(node +)\S+$", r"\1NODE"),
    # The last digits of an energy depend on the machine.
    (r"(-?\d+\.\d{5})\d+", r"\1"),
)


@dataclass
class Step:
    """A command of a page, and what it prints there."""

    line: str
    printed: list[str]
    is_script: bool = False


def steps_of(text: str) -> Iterator[Step]:
    """Yield the commands of a page, in order."""
    for skipped, kind, body in _BLOCK.findall(text):
        if skipped:
            continue
        if kind == "bash":
            yield Step(body, [], is_script=True)
            continue
        first, *commands = re.split(r"^\$ ", body, flags=re.MULTILINE)
        assert first == "", f"a console block begins with a command: {first}"
        for command in commands:
            line, *printed = command.rstrip("\n").split("\n")
            yield Step(line, printed)


def comparable(printed: list[str], *, under_way: bool = False) -> str:
    """Return the output for a comparison, without line breaks and text that differs between runs.

    For a job that is `under_way`, and for a batch, only the lines that are always there.
    """
    if under_way:
        printed = [line for line in printed if line.startswith(_STEADY)]
    text = "\n".join(printed)
    for pattern, stands_for in _PLACEHOLDERS:
        text = re.sub(pattern, stands_for, text, flags=re.MULTILINE)
    return "".join(text.split())


def is_under_way(printed: list[str]) -> bool:
    """Return whether task-status printed that a job or a batch has not ended."""
    return bool(printed) and not UNDER_WAY.isdisjoint(re.findall(r"\w+", printed[0]))


@dataclass
class Walker:
    """A person at a terminal who types the commands of a page.

    `fewer` maps text of the page to the text that is typed and compared in its place.
    """

    folder: Path
    environment: dict[str, str]
    fewer: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 240  # for a job to get into the state that the page shows
    _last_code: int = 0
    _place: Path = field(init=False)  # a file that says where the last command went

    def __post_init__(self) -> None:
        self._place = self.folder.with_name(f"{self.folder.name}.place")

    def type(self, step: Step) -> list[str]:
        """Type the command of a step. If the page shows an ended job, repeat it until then."""
        line, expected = self._here(step.line), [self._here(one) for one in step.printed]
        deadline = time.monotonic() + self.seconds
        while True:
            printed = self._run(line)
            is_early = "task-status" in line and is_under_way(printed)
            if not is_early or is_under_way(expected) or time.monotonic() > deadline:
                return printed
            time.sleep(0.5)

    def check(self, step: Step, printed: list[str]) -> None:
        """Check that the output of a command is the one on the page."""
        expected = [self._here(one) for one in step.printed]
        if step.line == "leruli list-codes":
            # Other tests publish images too.
            assert set(expected) <= set(printed)
            return
        under_way = "task-status" in step.line and is_under_way(expected)
        seen = comparable(printed, under_way=under_way)
        if expected[-1:] == [REST]:
            said = comparable(expected[:-1], under_way=under_way)
            seen = seen[: len(said)]
        else:
            said = comparable(expected, under_way=under_way)
        shown = "\n".join(printed)
        assert seen == said, f"$ {step.line}\n{shown}"
        assert not step.is_script or self._last_code == 0, step.line

    def _here(self, text: str) -> str:
        for said, typed in self.fewer.items():
            text = text.replace(said, typed)
        return text

    def _run(self, line: str) -> list[str]:
        script = f"(exit {self._last_code})\n{line}\ncode=$?; pwd > '{self._place}'; exit $code"
        shown = run_on_terminal(
            ["bash", "-c", script], self.environment, columns=COLUMNS, cwd=self.folder
        )
        self._last_code = shown.returncode
        self.folder = Path(self._place.read_text().strip())
        return shown.left if shown.left != [""] else []


def rewritten(text: str, printed: list[list[str]]) -> str:
    """Return the page with the real output of its commands, in the order of steps_of."""
    found = iter(printed)

    def block(match: re.Match[str]) -> str:
        if match[1]:
            return match[0]
        lines = []
        for step in steps_of(match[0]):
            if step.is_script:
                next(found)
                return match[0]
            shown = _wrapped(next(found))
            if step.printed[-1:] == [REST]:
                shown = [*shown[: len(step.printed) - 1], REST]
            lines += [f"$ {step.line}", *shown]
        return "```console\n" + "\n".join(lines) + "\n```"

    return _BLOCK.sub(block, text)


_WRAPPER = textwrap.TextWrapper(COLUMNS, break_long_words=False, break_on_hyphens=False)


def _wrapped(lines: list[str]) -> list[str]:
    """Break lines at blanks where the terminal would break them anywhere."""
    wrapped = []
    for line in lines:
        is_long = len(line) > COLUMNS
        wrapped += _WRAPPER.wrap(line) if is_long else [line]
    return wrapped
