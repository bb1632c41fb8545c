"""Receipts: how each attempt ended, spooled on disk until the service took them."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leruli_node.folders import write_file
from leruli_node.model import AttemptId
from leruli_node.service.service_api import (
    RefusedError,
    RejectedError,
    ServiceApi,
    StaleError,
    UnreachableError,
)

log = logging.getLogger(__name__)

# A receipt that the service refuses for its own sake is tried again this often (seconds): a new
# version of the service may take it.
_REFUSED_PAUSE = 60.0
_LONGEST_UNREACHABLE = 30.0
# One receipt may make the service fail; that so many do in a row is the service's own trouble.
_UNANSWERED = 3
_LONGEST_WAIT = 5.0


@dataclass
class _Tries:
    """How often a receipt failed, and when (monotonic) it is tried again."""

    count: int = 0
    next_at: float = 0.0

    def again_after(self, seconds: float, at_least: float = 0.0) -> None:
        self.count += 1
        jitter = random.uniform(0.5, 1.0)  # noqa: S311
        self.next_at = time.monotonic() + max(at_least, seconds * jitter)


class Receipts:
    """The spool and the thread that delivers it, oldest first.

    Each receipt is tried again by itself, so that one which is refused makes no other wait.
    """

    def __init__(
        self, folder: Path, api: ServiceApi, clean_up: Callable[[AttemptId], None]
    ) -> None:
        self._folder = folder
        self._api = api
        self._clean_up = clean_up
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._tried: set[str] = set()
        self._wake = False
        self._tries: dict[str, _Tries] = {}
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)

    def start(self) -> None:
        """Start delivering, first what an earlier agent left.

        An attempt whose receipt is spooled is over here; if its state is still there the agent
        was ended in between, and cleans up now.
        """
        for attempt in self.undelivered():
            try:
                self._clean_up(attempt)
            except Exception:
                # The sweep takes what is left; the receipt must not wait for it.
                log.exception("cleaning up failed", extra={"attempt": attempt.key})
        self._thread.start()

    def undelivered(self) -> list[AttemptId]:
        """The attempts whose receipts wait; one that cannot be read is put aside for a person."""
        found = []
        for path in self._spooled():
            try:
                found.append(_attempt_of(json.loads(path.read_bytes())))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                _put_aside(path)
            except OSError as error:
                # Neither the start of the agent nor its reports may end at one bad sector.
                log.error("a receipt cannot be read: %s", error.strerror, extra={"file": path.name})
        return found

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
            self._wake = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: attempt.id in self._tried or not self.has(attempt), timeout
            )
        return not self.has(attempt)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until all are delivered; whether that came to pass."""
        with self._changed:
            self._wake = True
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
        while not self._stop.is_set():
            try:
                self._deliver_due()
            except Exception:
                log.exception("delivering receipts failed unexpectedly")
                if self._stop.wait(5.0):
                    return
            with self._changed:
                if not self._wake:
                    self._changed.wait(self._until_next())
                self._wake = False

    def _until_next(self) -> float:
        """Seconds until a receipt is due; a while when there is none."""
        now = time.monotonic()
        times = (
            self._tries[path.stem].next_at for path in self._spooled() if path.stem in self._tries
        )
        return min(_LONGEST_WAIT, max(0.05, min(times, default=now + _LONGEST_WAIT) - now))

    def _deliver_due(self) -> None:
        """Try each receipt that is due, once; those that failed least often go first."""
        spooled = self._spooled()
        names = {path.stem for path in spooled}
        self._tries = {name: tries for name, tries in self._tries.items() if name in names}
        now = time.monotonic()
        due = [
            path for path in spooled if self._tries.setdefault(path.stem, _Tries()).next_at <= now
        ]
        unanswered = 0
        for path in sorted(due, key=lambda path: self._tries[path.stem].count):
            if self._stop.is_set():
                return
            tries = self._tries[path.stem]
            try:
                self._deliver(path)
            except UnreachableError as error:
                log.warning("a receipt waits for the service: %s", error)
                tries.again_after(min(_LONGEST_UNREACHABLE, 2.0**tries.count), error.retry_after)
                unanswered += 1
            except (RefusedError, RejectedError) as error:
                log.error("the service refuses a receipt: %s", error, extra={"attempt": path.stem})
                tries.again_after(_REFUSED_PAUSE)
            except Exception:
                log.exception("a receipt failed unexpectedly", extra={"attempt": path.stem})
                tries.again_after(min(_REFUSED_PAUSE, 5.0 * 2.0**tries.count))
            else:
                unanswered = 0
            self._note(path.stem)
            if unanswered == _UNANSWERED:
                # Not this receipt's trouble: the service is away, from all of them.
                self._postpone_others(due, tries.next_at)
                return

    def _deliver(self, path: Path) -> None:
        try:
            body = json.loads(path.read_bytes())
            _attempt_of(body)
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            _put_aside(path)
            return
        body.pop("spooledat", None)
        try:
            self._api.end(body)
            log.info("receipt delivered", extra=_facts(body))
        except StaleError as error:
            log.info("receipt not needed any more: %s", error, extra=_facts(body))
        # Not synced: after a power cut it may be there again, and is not needed any more.
        path.unlink(missing_ok=True)

    def _postpone_others(self, due: list[Path], until: float) -> None:
        for path in due:
            tries = self._tries[path.stem]
            tries.next_at = max(tries.next_at, until)
            self._note(path.stem)

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


def _attempt_of(body: dict[str, Any]) -> AttemptId:
    """The attempt that a receipt is of. Raises KeyError, TypeError or ValueError."""
    return AttemptId.parse(body["jobid"], str(body["attempt"]))


def _put_aside(path: Path) -> None:
    # Written in one step, so this is a disk's fault.
    log.error("a receipt cannot be read", extra={"file": path.name})
    with contextlib.suppress(OSError):
        path.rename(path.with_suffix(".broken"))


def _facts(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": body.get("jobid"),
        "attempt": body.get("attempt"),
        "outcome": body.get("outcome"),
    }
