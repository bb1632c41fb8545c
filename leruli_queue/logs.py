"""Structured logs: JSON for machines, readable lines in a terminal.

A value that is bound with :func:`structlog.contextvars.bind_contextvars`, such as the request id,
is in every line that is logged while it is bound.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog

from leruli_queue.access.secrets import redact
from leruli_queue.settings import Settings


def set_up_logs(settings: Settings) -> None:
    """Configure structlog and the standard library's logging (uvicorn, asyncpg)."""
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    hidden = settings.secret_values()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    if as_json:
        finish: list[structlog.typing.Processor] = [
            _without_rows,
            # Without local variables, which may hold secrets.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            _Redacted(structlog.processors.JSONRenderer(), hidden),
        ]
    else:
        finish = [
            _without_rows,
            structlog.processors.format_exc_info,
            _Redacted(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()), hidden),
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # api/middleware.py logs one line for each request, with its id. These loggers would repeat it.
    for name in ("uvicorn.access", "httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel("WARNING")
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers[:] = []
        logging.getLogger(name).propagate = True


class _Redacted:
    """Wraps a renderer and removes every secret from its lines: the last line of defence."""

    def __init__(self, render: structlog.typing.Processor, values: Sequence[str]) -> None:
        self._render = render
        self._values = values

    def __call__(self, logger: Any, method: str, event: structlog.typing.EventDict) -> str:
        line = redact(str(self._render(logger, method, event)))
        for value in self._values:
            line = line.replace(value, "[redacted]")
        return line


def _without_rows(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Remove PostgreSQL's details from an exception, because they quote the row."""
    info = event.get("exc_info")
    error = info[1] if isinstance(info, tuple) else info or None
    _forget_rows(error if isinstance(error, BaseException) else sys.exception(), set())
    return event


def _forget_rows(error: BaseException | None, seen: set[int]) -> None:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    if isinstance(error, asyncpg.PostgresError):
        error.detail = None
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    for other in (error.__cause__, error.__context__, *inner):
        _forget_rows(other, seen)
