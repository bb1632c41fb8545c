"""The usual meaning of the exit code of a job's command, in a sentence.

bash runs the command. It has its own codes (126, 127), and for a program that a signal ended it
returns 128 plus the number of the signal.
"""

from __future__ import annotations

import re
import signal

_MEANINGS = {
    124: "mostly that `timeout`, which the command ran, ended a program that took too long",
    126: (
        "that a file could not be executed: mostly it has no execute permission (chmod +x), or it "
        "is not a program for this machine"
    ),
    127: (
        "that a program was not found: mostly it is not in the image, not on the PATH there, or "
        "its name is mistyped"
    ),
    132: "that a program was ended by an illegal instruction: it was built for another processor",
    134: (
        "that a program ended itself (SIGABRT): mostly a check inside it failed, or it got no "
        "memory"
    ),
    135: (
        "a bus error: mostly /dev/shm (`--shm-size`) or a file that is mapped into memory was full "
        "or cut short"
    ),
    136: "an arithmetic error, such as a division by zero",
    137: (
        "that a program was killed (SIGKILL): mostly one of several used too much memory, or a "
        "script killed it"
    ),
    139: (
        "a segmentation fault: mostly a defect of the program, a stack that is too small (try "
        "`ulimit -s unlimited`), or input that it does not expect"
    ),
    143: "that a program was ended by SIGTERM: mostly a script or the program's launcher sent it",
}

# In the reason of a job whose command failed. An older service names the code only there.
_IN_REASON = re.compile(r"exit code (-?\d+)")

_POINTER = "joberr.txt has what it wrote last."


def exit_code_of(reason: str | None) -> int | None:
    """Return the exit code that a job's reason names, None if it names none."""
    found = _IN_REASON.search(reason or "")
    return int(found[1]) if found else None


def explain(state: str, reason: str | None, exit_code: int | None = None) -> str | None:
    """Return the meaning of a failed job's exit code and where to look; None for other jobs.

    Without `exit_code` the code in the reason counts.
    """
    named = exit_code_of(reason)
    # For a job that exceeded its memory or time the reason says everything.
    if state != "failed" or named is None:
        return None
    code = named if exit_code is None else exit_code
    meaning = _MEANINGS.get(code) or _signal(code)
    if meaning is None:
        return f"Exit code {code} is the program's own. {_POINTER}"
    return f"Exit code {code} means {meaning}. {_POINTER}"


def _signal(code: int) -> str | None:
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return None
    return f"that a program was ended by the signal {name}"
