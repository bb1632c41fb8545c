"""The further attempts of a slot: granted by the service, or given back to it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable

from leruli_node.attempts.store import AttemptStore
from leruli_node.model import GRANTED, AttemptId, AttemptState, boot_id
from leruli_node.objects.upload_lease import Held, HeldLeases, boot_time
from leruli_node.retry import Backoff, Stop, only_first, retrying
from leruli_node.service.service_api import UnreachableError
from leruli_node.slots.asking import Granted, NextAttempts
from leruli_node.slots.record import SlotRecord, SlotRecords

log = logging.getLogger(__name__)

# Retry time of a question for further attempts, in seconds. An answer may have been lost: the
# attempts that it granted wait until the agent knows of them.
_ASK_FOR_S = 600.0


class Granting:
    """Asks for further attempts of slots, and gives attempts back. Safe for several threads."""

    def __init__(
        self,
        records: SlotRecords,
        store: AttemptStore,
        receipts: Callable[[], Iterable[AttemptId]],
        asking: NextAttempts,
        stop: Stop,
        leases: HeldLeases,
    ) -> None:
        self._records = records
        self._store = store
        # The attempts whose receipts the service has not taken.
        self._receipts = receipts
        self._asking = asking
        self._stop = stop
        # Slots whose latest question was answered. The record is not written again for that: an
        # agent that asks once more finds the attempts that it knows.
        self._answered: set[str] = set()
        self._leases = leases

    def next(self, first: AttemptId, ahead: int = 0) -> list[AttemptId]:
        """Ask for the next attempt of a slot, and for up to `ahead` more while many jobs wait.

        They have state files before this returns.

        Returns
        -------
        None of them: the slot is over.

        Raises
        ------
        StoppedError, OSError
            The agent is being stopped, or the disk failed. The next call sends the same question.
        """
        while (record := self._records.get(first)) is not None:
            # The service counts a lease from the first time that it got the question.
            asked_at = None
            if not record.key or first.key in self._answered:
                # Stored before it is sent: the same key gets the same answer.
                record = self._records.update(record, key=secrets.token_urlsafe(24))
                self._answered.discard(first.key)
                asked_at = boot_time()
            # Noted before it is sent: an attempt of the answer may end here meanwhile.
            known = self._known() if asked_at is None else frozenset()
            granted = self._ask(record, ahead)
            created: list[AttemptId] = []
            try:
                for one in granted:
                    if one.attempt not in known:
                        self._create(record, one, asked_at)
                        created.append(one.attempt)
            except OSError as error:
                if not created:
                    raise
                # The same question is sent again for the others.
                log.error("an attempt cannot be stored: %s", error, extra=first.log_fields)
                return created
            self._answered.add(first.key)
            if created or not granted:
                return created
            # An agent before this one had the answer already.
        return []

    def has_open_question(self, first: AttemptId) -> bool:
        """Return whether a question may have an answer that this agent does not know."""
        record = self._records.get(first)
        return record is not None and bool(record.key) and first.key not in self._answered

    def forget(self, first: AttemptId) -> None:
        """The slot is over."""
        self._answered.discard(first.key)

    def give_back(self, attempt: AttemptId) -> bool:
        """Return an attempt that has not begun to the service: another node may run it now.

        The service counts nothing. Return False while the service cannot be reached.
        """
        try:
            retrying(
                lambda: self._asking.give_back([attempt]),
                UnreachableError,
                Backoff(self._stop, _ASK_FOR_S),
                only_first(lambda error: log.warning("giving an attempt back: %s", error)),
            )
        except UnreachableError:
            return False
        return True

    def _known(self) -> frozenset[AttemptId]:
        """Return the attempts that this node has, or whose receipts it has."""
        return frozenset([*(state.id for state in self._store.all()), *self._receipts()])

    def _ask(self, record: SlotRecord, ahead: int) -> list[Granted]:
        try:
            return retrying(
                lambda: self._asking.ask(record.first, record.key, ahead),
                UnreachableError,
                Backoff(self._stop, _ASK_FOR_S),
                only_first(lambda error: log.warning("asking for the next attempt: %s", error)),
            )
        except UnreachableError:
            return []

    def _create(self, record: SlotRecord, one: Granted, asked_at: float | None) -> None:
        """Store a granted attempt."""
        if asked_at is not None:
            self._leases.put(one.attempt.key, Held(asked_at, one.silence_s))
        self._store.create(
            AttemptState(
                job=one.attempt.job,
                attempt=one.attempt.attempt,
                alloc=record.alloc,
                startkey=record.key,
                phase=GRANTED,
                boot_id=boot_id(),
                grant=one.grant,
                marks_objects=True,
                slot=record.first.key,
                user=one.user,
                share_container=one.share_container,
            ),
            # After a power cut the service hears nothing of the attempt and abandons it.
            sync=False,
        )
