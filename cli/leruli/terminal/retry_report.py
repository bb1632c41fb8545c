"""The retry rule of a job, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leruli.service.states import FINAL


def retry_lines(job: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Return what an answer of task-detail says of the job's retry rule; nothing without one."""
    rule = job.get("retry")
    if not isinstance(rule, Mapping):
        return []
    used, most = rule.get("used", 0), rule.get("most", 0)
    is_over = job.get("state") in FINAL
    far = f"{used} of {most} used" if is_over else f"attempt {used + 1} of {most + 1}"
    ends = ", ".join(str(end) for end in rule.get("on") or ())
    limits = memory_and_time({key: rule.get(key) for key in ("memorymb", "timelimit")})
    text = f"{far}; after {ends}" + (f"; up to {limits}" if limits else "")
    lines: list[tuple[str, str | None]] = [("retries", text)]
    if used and job.get("state") == "received":
        lines.append(("next attempt", memory_and_time(job)))
    return lines


def memory_and_time(limits: Mapping[str, Any]) -> str:
    """Return memory and time limit as a text, without those that are not known."""
    memory_mb, seconds = limits.get("memorymb"), limits.get("timelimit")
    parts = [
        f"{memory_mb:,} MB" if isinstance(memory_mb, int) else None,
        f"{seconds / 60:g} min" if isinstance(seconds, (int, float)) else None,
    ]
    return ", ".join(part for part in parts if part)
