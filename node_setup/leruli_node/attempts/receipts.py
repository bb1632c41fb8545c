"""Receipts: how each attempt ended, stored on disk until the service has accepted them."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leruli_node.attempts.gathered import GatheredReceipts, id_of
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

# Pause after the service refused a receipt, in seconds. A new version of the service may accept it.
_REFUSED_PAUSE = 60.0
_LONGEST_UNREACHABLE = 30.0
# One receipt may make the service fail. After this many failures in a row the service itself is
# away.
_UNANSWERED = 3
_LONGEST_WAIT = 5.0


@dataclass
class _Tries:
    """How often a receipt failed, and when (monotonic) the next try is due."""

    count: int = 0
    next_at: float = 0.0

    def again_after(self, seconds: float, at_least: float = 0.0) -> None:
        self.count += 1
        jitter = random.uniform(0.5, 1.0)  # noqa: S311
        self.next_at = time.monotonic() + max(at_least, seconds * jitter)


class Receipts:
    """The spool and the thread that delivers it, oldest first.

    Each receipt is retried on its own, so that a refused one delays no other.
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
        # Those that go with the next call of the slots.
        self.gathered = GatheredReceipts()
        self._thread = threading.Thread(target=self._run, name="receipts", daemon=True)

    def start(self) -> None:
        """Start delivering, beginning with the receipts of an earlier agent.

        An attempt whose receipt is spooled is over here. If its state still exists, the agent ended
        in between; then clean up now.
        """
        for attempt in self.undelivered():
            try:
                self._clean_up(attempt)
            except Exception:
                # The sweep removes the rest; the receipt must not wait for it.
                log.exception("cleaning up failed", extra={"attempt": attempt.key})
        self._thread.start()

    def undelivered(self) -> list[AttemptId]:
        """Return the attempts with undelivered receipts.

        Unreadable files are set aside for a person.
        """
        found = []
        for path in self._spooled():
            try:
                found.append(_attempt_of(json.loads(path.read_bytes())))
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                _put_aside(path)
            except OSError as error:
                # A bad sector must stop neither the agent's start nor its reports.
                log.error("a receipt cannot be read: %s", error.strerror, extra={"file": path.name})
        return found

    def has(self, attempt: AttemptId) -> bool:
        """Return whether the attempt's receipt is spooled and not delivered."""
        return self._path(attempt).exists()

    def spool(self, attempt: AttemptId, body: dict[str, Any], is_gathered: bool = False) -> None:
        """Store a receipt durably.

        `announce` has it delivered. One that is gathered waits for `gathered.ready`.
        """
        named = {"jobid": attempt.job, "attempt": attempt.attempt, **body}
        if is_gathered:
            # Before the file: the delivery thread must not send it too.
            self.gathered.hold(named)
        try:
            whole = {"spooledat": time.time(), **named}
            write_file(self._path(attempt), json.dumps(whole).encode())
        except BaseException:
            self.gathered.forget([named])
            raise

    def are_answered(self, bodies: Sequence[dict[str, Any]], answers: Any) -> None:
        """Forget the receipts of a call that the service answered one by one."""
        try:
            stale = {(one["jobid"], one["attempt"]): one["stale"] for one in answers or []}
        except (KeyError, TypeError):
            stale = {}
        lost = []
        for body in bodies:
            if (body["jobid"], body["attempt"]) not in stale:
                lost.append(body)
                continue
            why = stale[body["jobid"], body["attempt"]]
            if why is not None:
                log.info("receipt not needed any more: %s", why, extra=_facts(body))
            (self._folder / f"{id_of(body)}.json").unlink(missing_ok=True)
        self.gathered.forget(bodies)
        with self._changed:
            self._wake = self._wake or bool(lost)
            self._changed.notify_all()

    def are_not_taken(self, bodies: Sequence[dict[str, Any]]) -> None:
        """Have the receipts of a call without an answer delivered each by itself.

        One of them may be what the service cannot take.
        """
        if bodies:
            self.are_answered(bodies, [])

    def announce(self, attempt: AttemptId, timeout: float) -> bool:
        """Wake the delivery thread.

        Returns
        -------
        Whether the service accepted the receipt within `timeout` seconds.
        """
        with self._changed:
            self._tried.discard(attempt.id)
            self._wake = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: attempt.id in self._tried or not self.has(attempt), timeout
            )
        return not self.has(attempt)

    def wait_tried(self, attempts: Collection[AttemptId], timeout: float) -> None:
        """Wait until each receipt was tried once, or is gone; for at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(
                lambda: all(one.id in self._tried or not self.has(one) for one in attempts), timeout
            )

    def wait_empty(self, timeout: float) -> bool:
        """Wait until all are delivered. Return whether that happened within `timeout` seconds."""
        with self._changed:
            # No slot asks any more.
            self.gathered.clear()
            self._wake = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._spooled(), timeout)

    def stop(self) -> None:
        """Stop delivering. The next agent delivers the rest."""
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
                self._changed.wait_for(
                    lambda: self._wake or self._stop.is_set(), self._until_next()
                )
                self._wake = False

    def _until_next(self) -> float:
        """Return the seconds until a receipt is due; _LONGEST_WAIT if there is none."""
        now = time.monotonic()
        times = (
            self._tries[path.stem].next_at
            for path in self._spooled()
            if path.stem in self._tries and path.stem not in self.gathered
        )
        return min(_LONGEST_WAIT, max(0.05, min(times, default=now + _LONGEST_WAIT) - now))

    def _deliver_due(self) -> None:
        """Try each due receipt once, starting with those that failed least often."""
        spooled = self._spooled()
        names = {path.stem for path in spooled}
        self._tries = {name: tries for name, tries in self._tries.items() if name in names}
        now = time.monotonic()
        due = [
            path
            for path in spooled
            if path.stem not in self.gathered
            and self._tries.setdefault(path.stem, _Tries()).next_at <= now
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
                # The receipt is not the cause: the service is away for all of them.
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
        # Not synced. After a power cut the file may be back; the service then answers that it is
        # not needed.
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
    """Return the attempt of a receipt. Raises KeyError, TypeError or ValueError."""
    return AttemptId.parse(body["jobid"], str(body["attempt"]))


def _put_aside(path: Path) -> None:
    # Files are written in one step, so the disk is the cause.
    log.error("a receipt cannot be read", extra={"file": path.name})
    with contextlib.suppress(OSError):
        path.rename(path.with_suffix(".broken"))


def _facts(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": body.get("jobid"),
        "attempt": body.get("attempt"),
        "outcome": body.get("outcome"),
    }
