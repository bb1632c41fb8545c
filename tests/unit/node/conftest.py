from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_faults import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.receipts.stop()
    made.trash.stop(10)
