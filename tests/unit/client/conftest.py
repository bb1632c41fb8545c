"""Unit tests of the client run without any of its settings."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LERULI_"):
            monkeypatch.delenv(name)
