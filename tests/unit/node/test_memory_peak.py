"""Memory of cgroups. FAKE files: this machine has one of the two versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from leruli_node.slots import memory_peak
from leruli_node.slots.memory_peak import MemoryPeak

PARTS = "anon 5\nactive_file 2000\ninactive_file 3000\ninactive_anon 1\n"
V1 = ("9:memory:/docker/a\n0::/\n", "memory/docker/a", "memory.usage_in_bytes")
V2 = ("0::/system.slice/docker-a.scope\n", "system.slice/docker-a.scope", "memory.current")


@pytest.fixture(params=[V1, V2], ids=["v1", "v2"])
def cgroup(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines, folder, usage = request.param
    monkeypatch.setattr(memory_peak, "_PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(memory_peak, "_CGROUPS", tmp_path / "cgroup")
    process, path = tmp_path / "proc" / "7", tmp_path / "cgroup" / folder
    process.mkdir(parents=True)
    path.mkdir(parents=True)
    (process / "cgroup").write_text(lines)
    (path / usage).write_text("9000\n")
    (path / "memory.stat").write_text(PARTS)
    return path


def test_the_page_cache_is_left_out(cgroup: Path) -> None:
    memory = MemoryPeak(7)
    assert (memory.cache(), memory.without_cache()) == (5000, 4000)
    (cgroup / "memory.stat").write_text("nothing known\n")
    assert (memory.cache(), memory.without_cache()) == (None, None)


def test_a_cgroup_that_is_gone(cgroup: Path) -> None:
    memory = MemoryPeak(8)
    assert (memory.cache(), memory.without_cache(), memory.read()) == (None, None, None)
