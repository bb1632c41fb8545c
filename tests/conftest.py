"""What holds for every test."""

from __future__ import annotations

import signal

import pytest

# What a script starts in its background ignores Ctrl-C; what the tests start must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest, in that order. Where files run side by side (setup/test.sh) these
# begin first, so that at the end no long one is left to run alone.
_LONGEST = (
    "e2e/test_stack.py",
    "e2e/test_outcomes.py",
    "e2e/test_crashes.py",
    "e2e/test_canaries.py",
    "e2e/test_soak.py",
    "e2e/test_hostile_soak.py",
    "e2e/test_hostile_node.py",
    "e2e/test_lost_node.py",
    "e2e/test_tutorial.py",
    "e2e/test_manual.py",
    "e2e/test_rotation.py",
    "integration/node/test_faults.py",
    "integration/bench/test_drain.py",
    "integration/client/test_submit.py",
    "integration/client/test_group.py",
    "integration/node/test_outcomes.py",
    "integration/service/test_schema.py",
    "integration/bench/test_footprint.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0].removeprefix("tests/")
        return _LONGEST.index(file) if file in _LONGEST else len(_LONGEST)

    items.sort(key=place)
