"""The lock of a data folder: its holder while it is taken and while it is released."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from leruli_queue.embedded import lock


def test_the_holder_is_known_while_it_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock.holder(path) is None
    with lock.hold(path):
        assert lock.holder(path) == os.getpid()
    assert lock.holder(path) is None


def test_a_lock_that_is_being_released_is_waited_for(tmp_path: Path) -> None:
    """The holder removes its process id before it releases the lock: `down` waited for ever."""
    path = tmp_path / "lock"
    path.touch()
    found: list[int | None] = []
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        asking = threading.Thread(target=lambda: found.append(lock.holder(path)), daemon=True)
        asking.start()
        time.sleep(0.1)
        assert asking.is_alive()
    asking.join(10)
    assert found == [None]
