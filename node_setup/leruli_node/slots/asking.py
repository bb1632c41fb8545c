"""The call slot-next: one for all slots of the node that have something within some milliseconds.

It carries receipts, which commands run, which attempts are given back, and which slots ask for
further attempts. A short job so costs the service one call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any

from leruli_node.attempts.receipts import Receipts
from leruli_node.errors import StoppedError
from leruli_node.model import AttemptId, StartGrant
from leruli_node.service.service_api import ServiceApi, ServiceError, UnreachableError

log = logging.getLogger(__name__)

# Seconds for which questions are gathered: jobs of milliseconds end together.
_GATHER_S = 0.02
# Seconds for which a receipt waits for a question to go with.
_RECEIPT_WAITS_S = 1.0
# Seconds after a grant in which another question is expected soon.
_BUSY_S = 3.0
# Seconds between two looks whether the agent is being stopped.
_POLL_S = 1.0
# The service takes no more in one call.
_MOST_SLOTS = 200
_MOST_RECEIPTS = 500


@dataclass(frozen=True)
class Granted:
    """A further attempt of a slot."""

    attempt: AttemptId
    grant: StartGrant
    # Differs between users. A container serves one of them.
    user: str
    share_container: bool
    # The grant is a lease to upload, too: the service's silence limit in seconds.
    silence_s: float

    @classmethod
    def parse(cls, answer: dict[str, Any], silence_s: float) -> Granted:
        """From the service's answer; KeyError, TypeError or ValueError when it is not one."""
        return cls(
            AttemptId(str(answer["jobid"]), int(answer["attempt"])),
            StartGrant.parse(answer),
            str(answer["user"]),
            bool(answer["sharecontainer"]),
            silence_s,
        )


@dataclass
class _Question:
    first: AttemptId
    key: str
    most: int
    ahead: int = 0
    running: Sequence[AttemptId] = ()
    returned: Sequence[AttemptId] = ()
    answer: Future[list[Granted]] = field(default_factory=Future)


class NextAttempts:
    """Sends slot-next, one call at a time. Safe to use from several threads."""

    def __init__(self, api: ServiceApi, receipts: Receipts, stop: threading.Event) -> None:
        self._api = api
        self._receipts = receipts
        self._stop = stop
        self._changed = threading.Condition()
        self._gathered: list[_Question] = []
        self._granted_at = 0.0
        self._thread: threading.Thread | None = None
        receipts.gathered.call_with(self._wake)

    def ask(self, first: AttemptId, key: str, ahead: int) -> list[Granted]:
        """Ask for the next attempt of a slot; none: the slot is over.

        Parameters
        ----------
        first
            The slot's first attempt.
        key
            Random. The same key asks again after a lost answer.
        ahead
            How many more attempts the slot takes while many jobs wait.

        Raises
        ------
        UnreachableError
            There is no answer; the same question can be asked again.
        StoppedError
            The agent is being stopped.
        """
        return self._answer(_Question(first, key, 1, ahead))

    def give_back(self, attempts: Sequence[AttemptId]) -> None:
        """Return attempts that have not begun. Raises as `ask`; can be repeated."""
        self._answer(_Question(attempts[0], "", 0, returned=attempts))

    def tell_running(self, attempt: AttemptId) -> None:
        """Say that the command of an attempt runs. Waits for nothing, and fails without harm."""
        self._gather(_Question(attempt, "", 0, running=[attempt]))

    def _answer(self, question: _Question) -> list[Granted]:
        self._gather(question)
        while True:
            try:
                return question.answer.result(_POLL_S)
            except FutureTimeoutError:
                if self._stop.is_set():
                    raise StoppedError from None

    def _gather(self, question: _Question) -> None:
        with self._changed:
            self._gathered.append(question)
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="slot-next", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                if not self._gathered and not self._receipts.gathered.has_ready():
                    self._changed.wait(_POLL_S)
                    continue
                if not self._gathered and time.monotonic() - self._granted_at < _BUSY_S:
                    self._changed.wait_for(lambda: self._gathered, _RECEIPT_WAITS_S)
            time.sleep(_GATHER_S)
            with self._changed:
                questions = self._gathered[:_MOST_SLOTS]
                self._gathered = self._gathered[_MOST_SLOTS:]
            self._send(questions)

    def _send(self, questions: Sequence[_Question]) -> None:
        receipts = self._receipts.gathered.take(_MOST_RECEIPTS)
        try:
            answers = self._call(questions, receipts)
        except Exception as error:  # each question's thread gets it
            self._receipts.are_not_taken(receipts)
            for question in questions:
                question.answer.set_exception(error)
            return
        for question in questions:
            question.answer.set_result(answers.get(question.first, []))

    def _call(
        self, questions: Sequence[_Question], receipts: Sequence[dict[str, Any]]
    ) -> dict[AttemptId, list[Granted]]:
        body = {
            "receipts": receipts,
            "running": [_named(one) for question in questions for one in question.running],
            "returned": [_named(one) for question in questions for one in question.returned],
            "slots": [
                {
                    **_named(question.first),
                    "key": question.key,
                    "most": question.most,
                    "ahead": question.ahead,
                }
                for question in questions
                if question.most
            ],
        }
        try:
            answered = self._api.slot_next(body)
        except UnreachableError:
            raise
        except ServiceError as error:
            # No further attempts for these slots: Nomad places the jobs.
            log.error("slot-next is refused: %s", error)
            self._receipts.are_not_taken(receipts)
            return {}
        self._receipts.are_answered(receipts, answered.get("receipts"))
        try:
            silence_s = float(answered["silenceseconds"])
            granted = {
                AttemptId(str(slot["jobid"]), int(slot["attempt"])): [
                    Granted.parse(one, silence_s) for one in slot["next"]
                ]
                for slot in answered["slots"]
            }
        except (KeyError, TypeError, ValueError) as error:
            log.error("slot-next was not understood: %s", error)
            return {}
        if granted:
            self._granted_at = time.monotonic() if any(granted.values()) else 0.0
        return granted


def _named(attempt: AttemptId) -> dict[str, Any]:
    return {"jobid": attempt.job, "attempt": attempt.attempt}
