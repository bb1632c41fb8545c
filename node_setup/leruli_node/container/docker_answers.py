"""Reads Docker's answers: lists, descriptions and statistics of containers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from leruli_node.model import ContainerFacts


@dataclass(frozen=True)
class Listed:
    """One own container in a list. `state` is Docker's word (running, exited, created, …)."""

    id: str
    attempt_key: str
    state: str


@dataclass(frozen=True)
class Usage:
    """A sample of a running container: peak memory in MB, CPU seconds so far.

    `no_cache_mb` is its present memory without page cache.
    """

    memory_mb: int | None
    cpu_seconds: float | None
    no_cache_mb: int | None = None


def container_facts(inspected: dict[str, Any]) -> ContainerFacts:
    """Return the facts that attempts/decide.py needs from Docker's description."""
    state = inspected["State"]
    return ContainerFacts(
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        started_at=parse_time(state.get("StartedAt")),
        finished_at=parse_time(state.get("FinishedAt")),
        error=str(state.get("Error") or ""),
    )


def missing_limits(info: dict[str, Any]) -> list[str]:
    """Return the limits that Docker cannot enforce, in words, from its description of itself."""
    words = {"MemoryLimit": "memory", "CpuCfsQuota": "CPU", "PidsLimit": "processes"}
    return [word for name, word in words.items() if not info.get(name)]


def parse_time(text: str | None) -> float | None:
    """Return Docker's time in seconds since 1970. None for its year 1, which means "never"."""
    found = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z", text or "")
    if found is None or found.group(1).startswith("0001"):
        return None
    zone = "+00:00" if found.group(3) == "Z" else found.group(3)
    whole = datetime.fromisoformat(found.group(1) + zone).astimezone(timezone.utc)
    return whole.timestamp() + float(found.group(2) or 0)


def parse_usage(stats: dict[str, Any]) -> Usage | None:
    """Return peak memory and CPU time from Docker's statistics, None if there are none."""
    memory, cpu = stats.get("memory_stats") or {}, (stats.get("cpu_stats") or {}).get("cpu_usage")
    # cgroup v1 has the peak itself. v2 has the present use; subtract its reclaimable cache.
    used = memory.get("max_usage")
    if used is None and memory.get("usage") is not None:
        cache = (memory.get("stats") or {}).get("inactive_file", 0)
        used = max(0, memory["usage"] - cache)
    nanoseconds = (cpu or {}).get("total_usage")
    if used is None and not nanoseconds:
        return None
    return Usage(
        memory_mb=None if used is None else -(-int(used) // 2**20),
        cpu_seconds=nanoseconds / 1e9 if nanoseconds else None,
        no_cache_mb=_without_cache(memory),
    )


def _without_cache(memory: dict[str, Any]) -> int | None:
    """Return the present memory in MB without page cache. /dev/shm and the kernel's own count."""
    used, parts = memory.get("usage"), memory.get("stats") or {}
    if used is None or "active_file" not in parts:
        return None
    cache = parts["active_file"] + parts.get("inactive_file", 0) + parts.get("slab_reclaimable", 0)
    return -(-max(0, int(used - cache)) // 2**20)
