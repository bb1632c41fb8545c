from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from node_faults import Bench

sys.path.insert(0, str(Path(__file__).parents[3] / "node_setup"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    from node_faults import Bench  # of the agent, which is found by now

    made = Bench(tmp_path)
    yield made
    made.receipts.stop()
