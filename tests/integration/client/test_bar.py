"""A terminal with a progress bar: sentences stand above it, and not in its line."""

import re

from batch_world import submitting
from terminal_world import on_terminal

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def test_nothing_is_printed_into_the_line_of_the_bar(environment, service, cases):
    """D16. The FAKE service is busy once, in the middle of a batch."""
    service.faults.append((503, {}))
    shown = on_terminal(*submitting(pattern="case-0[0-4]*"), cwd=cases)
    assert shown.returncode == 0, shown.text
    begin = shown.raw.index("The queue is busy")
    # What the bar's line had was erased before: the cursor is back and the line is empty.
    line = shown.raw[:begin].rsplit("\n", 1)[-1].rsplit("\r", 1)[-1]
    assert _ESCAPE.sub("", line) == "", shown.raw
    assert "\x1b[2K" in line
    assert "trying again in" in shown.text
