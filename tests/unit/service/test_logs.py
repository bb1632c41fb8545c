from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import asyncpg
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


def test_every_line_has_the_request_id(capsys: pytest.CaptureFixture[str]) -> None:
    _log_as("json")
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("ours").info("a")
        logging.getLogger("theirs").warning("b")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["request_id"] for line in lines] == ["r-1", "r-1"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_secret_is_found_in_every_kind_of_log_value(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _log_as(log_format)
    secret = make(SecretType.API).text
    structlog.get_logger("test").warning(
        "event", raw=secret.encode(), key={f"x_{secret}": 1}, cut=secret[:30], big=secret.upper()
    )
    written = capsys.readouterr().err
    assert written.count("[redacted]") == 4
    assert secret[15:29] not in written.lower()


def test_the_services_own_secrets_are_known_by_value(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://leruli:hunter%2B22@host/db"
    set_up_logs(Settings(database_url=url, nomad_token="f00d-f00d-f00d", log_format="json"))
    logging.getLogger("theirs").error("%s or hunter+22 and f00d-f00d-f00d", url)
    written = capsys.readouterr().err
    assert written.count("[redacted]") == 3
    assert "hunter" not in written
    assert "f00d" not in written


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_error_does_not_log_rows_of_the_database(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _log_as(log_format)
    refused = asyncpg.CheckViolationError("violates the constraint")
    refused.detail = "Failing row contains (the-bucket)."
    inner = ValueError("inside")
    inner.__cause__ = refused
    outer = ExceptionGroup("several", [inner])
    structlog.get_logger("ours").error("failed", exc_info=outer)
    try:
        raise refused
    except asyncpg.PostgresError:
        logging.getLogger("uvicorn.error").exception("theirs")
    written = capsys.readouterr().err
    assert "violates the constraint" in written
    assert "the-bucket" not in written
