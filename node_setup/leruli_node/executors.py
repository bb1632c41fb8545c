"""Nomad's executors: the processes that run its stage tasks, and outlive it.

A Nomad that is killed leaves them, and the next one takes over those that it had noted. One that it
had only just started it does not know: that one stays for ever, with some 70 MB.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from leruli_node.processes import all_processes


def end_executors(allocations: Path, *, forgotten_only: bool) -> int:
    """Kill the executors of a node and return how many there were.

    Parameters
    ----------
    allocations
        The folder in which Nomad has a folder for each allocation.
    forgotten_only
        Leave those alone whose allocation has its folder still: Nomad may know them. Without, Nomad
        has to be stopped, and nothing of it to be worth anything.
    """
    count = 0
    for pid, folder in _executors(allocations):
        if forgotten_only and folder.exists():
            continue
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count


def _executors(allocations: Path) -> Iterator[tuple[int, Path]]:
    """Yield the process id of each executor and the folder of its allocation."""
    for pid, entry in all_processes():
        # One that ends meanwhile cannot be read, and of others the words are not these.
        with suppress(OSError, ValueError, KeyError, TypeError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if len(words) < 3 or words[1] != b"executor":
                continue
            log_file = Path(json.loads(words[2])["LogFile"])
            allocation = log_file.relative_to(allocations).parts[0]
            yield pid, allocations / allocation
