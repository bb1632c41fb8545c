"""Settings and order of all tests."""

from __future__ import annotations

import signal

import pytest

# Background processes of a script ignore Ctrl-C. Processes of the tests must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The longest files, longest first. Files run side by side (setup/test.sh), and these start first.
# So no long file runs alone at the end.
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
    "integration/service/test_event_order.py",
    "integration/service/test_schema.py",
    "integration/node/test_task_driver.py",
    "integration/service/test_slow_clients.py",
    "integration/node/test_outcomes.py",
    "integration/node/test_disk.py",
    "integration/service/test_serve.py",
    "integration/client/test_batch_after.py",
    "integration/node/test_nomad.py",
    "integration/node/test_faults.py",
    "integration/node/test_bucket.py",
    "integration/node/test_standing.py",
    "integration/bench/test_drain.py",
    "integration/service/test_roles.py",
    "integration/client/test_batch_real.py",
    "integration/service/test_users.py",
    "integration/client/test_submit.py",
    "integration/node/test_images.py",
    "integration/service/test_wrong_secrets.py",
    "integration/bench/test_simulation.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0].removeprefix("tests/")
        return _LONGEST.index(file) if file in _LONGEST else len(_LONGEST)

    items.sort(key=place)
