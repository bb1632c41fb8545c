"""Receipts: how each attempt ended, spooled on disk until the service took them."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leruli_node.errors import Interrupted
from leruli_node.folders import write_file
from leruli_node.retry import Backoff
from leruli_node.service_api import Refused, Rejected, ServiceApi, Stale, Unreachable
from leruli_node.state import AttemptId

log = logging.getLogger(__name__)

# A receipt that the service refuses for its own sake is tried again this often (seconds): a new
# version of the service may take it.
_REFUSED_PAUSE = 60.0


class Receipts:
    """The spool and the thread that delivers it, oldest first."""

    def __init__(
        self, folder: Path, api: ServiceApi, clean_up: Callable[[AttemptId], None]
    ) -> None:
        self._folder = folder
        self._api = api
        self._clean_up = clean_up
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._tried: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)

    def start(self) -> None:
        """Start delivering, first what an earlier agent left.

        An attempt whose receipt is spooled is over here; if its state is still there the agent
        was ended in between, and cleans up now.
        """
        for path in self._spooled():
            try:
                body = json.loads(path.read_bytes())
                attempt = AttemptId.parse(body["jobid"], str(body["attempt"]))
            except (ValueError, KeyError, TypeError):
                log.error("a receipt cannot be read", extra={"file": path.name})
                path.rename(path.with_suffix(".broken"))
                continue
            self._clean_up(attempt)
        self._thread.start()

    def has(self, attempt: AttemptId) -> bool:
        """Whether the attempt's receipt waits to be delivered."""
        return self._path(attempt).exists()

    def spool(self, attempt: AttemptId, body: dict[str, Any]) -> None:
        """Keep a receipt; durable when this returns. `announce` has it delivered."""
        whole = {"spooledat": time.time(), "jobid": attempt.job, "attempt": attempt.attempt, **body}
        write_file(self._path(attempt), json.dumps(whole).encode())

    def announce(self, attempt: AttemptId, timeout: float) -> bool:
        """Have it delivered now; whether that came to pass within `timeout` seconds."""
        with self._changed:
            self._tried.discard(attempt.id)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: attempt.id in self._tried or not self.has(attempt), timeout
            )
        return not self.has(attempt)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until all are delivered; whether that came to pass."""
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._spooled(), timeout)

    def stop(self) -> None:
        """Stop delivering; what is left is delivered by the next agent."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        backoff = Backoff(self._stop, longest=30.0)
        while not self._stop.is_set():
            try:
                pause = self._deliver_all()
            except Exception:
                log.exception("delivering receipts failed unexpectedly")
                pause = 5.0
            if pause is None:
                backoff = Backoff(self._stop, longest=30.0)
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._stop.is_set() or bool(self._spooled()), timeout=5.0
                    )
                continue
            try:
                backoff.pause(pause)
            except Interrupted:
                return

    def _deliver_all(self) -> float | None:
        """One round; None when the spool is empty, otherwise seconds until the next at least."""
        pause: float | None = None
        for path in self._spooled():
            if self._stop.is_set():
                return 0.0
            attempt_id = path.stem
            try:
                body = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue
            body.pop("spooledat", None)
            try:
                self._api.end(body)
                # Not synced: after a power cut it may be there again, and is not needed any more.
                path.unlink(missing_ok=True)
                log.info("receipt delivered", extra=_facts(body))
            except Stale as error:
                path.unlink(missing_ok=True)
                log.info("receipt not needed any more: %s", error, extra=_facts(body))
            except Unreachable as error:
                self._note(attempt_id)
                log.warning("receipts wait for the service: %s", error)
                return error.retry_after
            except (Refused, Rejected) as error:
                log.error("the service refuses a receipt: %s", error, extra=_facts(body))
                pause = _REFUSED_PAUSE
            self._note(attempt_id)
        return pause

    def _note(self, attempt_id: str) -> None:
        with self._changed:
            if len(self._tried) > 10_000:
                self._tried.clear()
            self._tried.add(attempt_id)
            self._changed.notify_all()

    def _spooled(self) -> list[Path]:
        def age(path: Path) -> float:
            try:
                return path.stat().st_mtime
            except FileNotFoundError:
                return 0.0

        return sorted(self._folder.glob("[!.]*.json"), key=age)

    def _path(self, attempt: AttemptId) -> Path:
        return self._folder / f"{attempt.id}.json"


def _facts(body: dict[str, Any]) -> dict[str, Any]:
    return {"job": body.get("jobid"), "attempt": body.get("attempt"), "outcome": body["outcome"]}
