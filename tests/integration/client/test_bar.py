"""Sentences are printed above a progress bar, not into its line."""

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
    # The bar's line was erased first: it is empty, and the cursor is at its start.
    line = shown.raw[:begin].rsplit("\n", 1)[-1].rsplit("\r", 1)[-1]
    assert _ESCAPE.sub("", line) == "", shown.raw
    assert "\x1b[2K" in line
    assert "trying again in" in shown.text
