"""The part to which each time slice in the output of `perf script` counts."""

from __future__ import annotations

import pytest

from bench.cpu_profile import table
from bench.cpu_time import account

PARTS = {"node": 10, "service": 20}
TREE = [
    " swapper 0/0 0.0: PERF_RECORD_FORK(10:10):(1:1)",
    " swapper 0/0 0.0: PERF_RECORD_FORK(10:11):(10:10)",
    " python 0/0 0.0: PERF_RECORD_FORK(12:12):(10:10)",
    " python 12/12 0.0: PERF_RECORD_COMM exec: nomad:12/12",
    " nomad 12/12 0.1: PERF_RECORD_FORK(13:13):(12:12)",
    " nomad 13/13 0.1: PERF_RECORD_COMM exec: leruli:13/13",
    " nomad 12/12 0.1: PERF_RECORD_FORK(14:14):(12:12)",
    " nomad 14/14 0.1: PERF_RECORD_COMM exec: python:14/14",
    " swapper 0/0 0.0: PERF_RECORD_FORK(20:20):(1:1)",
    " swapper 0/0 0.0: PERF_RECORD_FORK(21:21):(20:20)",
    " swapper 0/0 0.0: PERF_RECORD_FORK(30:30):(2:2)",
    " swapper 0/0 0.0: PERF_RECORD_FORK(40:40):(1:1)",
    " runc 40/40 0.0: PERF_RECORD_COMM exec: containerd-shim:40/40",
    " runc 40/40 0.0: PERF_RECORD_FORK(41:41):(40:40)",
    " runc 41/41 0.0: PERF_RECORD_COMM exec: bash:41/41",
]


def slice_of(process: int, thread: int, name: str, ran: int | None = None) -> str:
    ran = thread if ran is None else ran
    return f"  {name} {process}/{thread} 1.5: comm={name} pid={ran} runtime=2000000 [ns]"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (slice_of(10, 11, "stage"), "node agent"),
        (slice_of(12, 12, "nomad"), "Nomad's client"),
        (slice_of(13, 13, "leruli"), "task driver"),
        (slice_of(14, 14, "python"), "node: python"),
        (slice_of(21, 21, "python"), "service"),
        (slice_of(30, 30, "kworker/0:1"), "kernel's threads (disk)"),
        (slice_of(40, 40, "containerd-shim"), "Docker: containerd-shim"),
        (slice_of(41, 41, "bash"), "in the container"),
        (slice_of(99, 99, "compile"), "other"),
        # A process outside of the stack recorded this slice of the agent's thread.
        (slice_of(99, 99, "compile", ran=11), "node agent"),
    ],
)
def test_a_slice_counts_for_its_part(line: str, part: str) -> None:
    assert account([*TREE, line], PARTS) == {part: pytest.approx(0.002)}


def test_the_table_leaves_out_other_processes() -> None:
    ours = {"Docker: runc": 1.0, "node agent": 0.5, "other": 3.0}
    bare = {"Docker: runc": 0.8, "node agent": 0.1, "other": 0.2}
    assert table(ours, bare, jobs=10).splitlines()[2:] == [
        "| Docker: runc | 100 | 80 |",
        "| node agent | 50 | 0 |",
        "| all | 150 | 80 |",
        "Other processes meanwhile: 300 and 20 ms.",
    ]
