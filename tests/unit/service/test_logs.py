from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from leruli_queue.access.secrets import SecretType, make
from leruli_queue.logs import set_up_logs
from leruli_queue.settings import Settings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = before
    structlog.reset_defaults()


def _log_as(log_format: str) -> None:
    set_up_logs(Settings(database_url="postgresql://x", log_format=log_format))


def _fail(secret: str, password: str) -> None:
    database = f"postgresql://leruli:{password}@host"
    raise ValueError(f"{secret} is what the message holds; {len(database)}")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_leaves_through_a_log(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _log_as(log_format)
    secret = make(SecretType.API).text
    password = "hunter" + str(len(secret))
    log = structlog.get_logger("test")
    log.warning("event", text=f"it was {secret}", inner={"deep": [secret]})
    logging.getLogger("uvicorn.error").error("library said %s", secret)
    try:
        _fail(secret, password)
    except ValueError:
        log.exception("failed")
    written = capsys.readouterr().err
    assert "library said" in written
    assert written.count("[redacted]") >= 4
    assert secret not in written
    assert password not in written


def test_the_request_id_stands_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    _log_as("json")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("ours").info("a")
        logging.getLogger("theirs").warning("b")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["request_id"] for line in lines] == ["r-1", "r-1"]
