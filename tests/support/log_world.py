"""The log of the service, for tests of single lines."""

from __future__ import annotations

from types import ModuleType

import pytest
import structlog
from structlog.testing import LogCapture
from structlog.typing import EventDict


def captured_log(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[EventDict]:
    """Return the list to which every line that the module logs from now on is added.

    structlog's own capture_logs misses a logger that was used before: loggers are cached.
    """
    capture = LogCapture()
    monkeypatch.setattr(module, "log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries
