"""Reports while a part that they use hangs: FAKES of the service and Docker."""

from __future__ import annotations

import threading
import time
from typing import Any

from node_faults import Bench, attempt_state

from leruli_node.container.disk_use import Disks
from leruli_node.identity import NodeIdentity
from leruli_node.images.store import ImageStore
from leruli_node.model import AttemptId
from leruli_node.reporter import Reporter, Subject


class HangingDrop:
    """The parts around a reporter. Ending an attempt takes for ever."""

    trouble = None

    def __init__(self, bench: Bench) -> None:
        self.reports = 0
        self.dropped: list[AttemptId] = []
        self.may_end = threading.Event()
        self.attempts = [bench.add(attempt_state(number)) for number in (1, 2)]
        odd: Any = self
        images: Any = None
        self.reporter = Reporter(
            odd,
            odd,
            NodeIdentity(),
            Subject(
                bench.folders.root,
                bench.store,
                list,
                odd,
                "1",
                Disks(bench.folders.root, lambda: bench.folders.root, 0),
            ),
            ImageStore(images, lambda _: None),
            odd,
            self.drop,
            lambda _: None,
            lambda: None,
            lambda _: None,
            0.0,
            threading.Event(),
        )
        self.reporter.period = 0.05

    def report(self, body: dict[str, Any]) -> dict[str, Any]:
        self.reports += 1
        drop = [{"jobid": one.job, "attempt": one.attempt} for one in self.attempts]
        return {"standing": "active", "drop": drop, "reportseconds": 0.05}

    def is_due(self) -> bool:
        return False

    def drop(self, attempt: AttemptId) -> None:
        self.dropped.append(attempt)
        assert self.may_end.wait(60)


def test_reports_go_on_while_attempts_are_dropped(bench: Bench) -> None:
    """H7: ending a hundred containers takes longer than a node may be silent."""
    agent = HangingDrop(bench)
    agent.reporter.start()
    deadline = time.monotonic() + 20
    try:
        while agent.reports < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert agent.dropped == agent.attempts[:1]
    finally:
        agent.may_end.set()
        agent.reporter.stop()
    while agent.dropped[:2] != agent.attempts:
        assert time.monotonic() < deadline
        time.sleep(0.01)
