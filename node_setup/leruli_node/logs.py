"""Logging: one line for each event on stderr, as JSON or as text, without secrets."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _RedactingHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Replaces known secrets in every line, whichever module logged it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets: list[str] = []
        for secret in secrets:
            self.hide(secret)

    def hide(self, secret: str) -> None:
        """Replace this secret in all lines from now on."""
        if len(secret) >= 6 and secret not in self._secrets:
            self._secrets.append(secret)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line.update({k: v for k, v in vars(record).items() if k not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For a terminal: time, level, message, then the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of text, plus the lines of a traceback."""
        extra = " ".join(f"{k}={v}" for k, v in vars(record).items() if k not in _STANDARD)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname.lower():7} {record.getMessage()} {extra}".rstrip()
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(log_format: str, secrets: Iterable[str]) -> None:
    """Send all logging to stderr. `auto` means text on a terminal and JSON elsewhere."""
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = _RedactingHandler(secrets)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # These libraries log addresses, which contain bucket names.
    for name in ("httpx", "httpcore", "urllib3", "docker", "minio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def hide(secret: str) -> None:
    """Replace a secret that became known after `configure` in all lines from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _RedactingHandler):
            handler.hide(secret)
