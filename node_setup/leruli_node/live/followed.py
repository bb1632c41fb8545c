"""One followed attempt: once a second what is new in its logs becomes live objects."""

from __future__ import annotations

import logging

from leruli_node.attempts.store import AttemptStore
from leruli_node.errors import StoppedError, describe
from leruli_node.live.guard import FollowGuard
from leruli_node.live.live_objects import LiveObjects
from leruli_node.live.places import Places
from leruli_node.live.tail import Piece, Tail
from leruli_node.model import AttemptId
from leruli_node.objects.live_names import STREAMS
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import (
    NotFoundError,
    StoreUnavailableError,
    UnstorableError,
)

log = logging.getLogger(__name__)

# Bytes that one step sends. Steps are at least a second apart.
_MOST_AT_ONCE = 1_000_000
_FAILURES = (OSError, StoreUnavailableError, NotFoundError, UnstorableError)


class FollowedAttempt:
    """The logs of one followed attempt. One thread at a time steps and closes it."""

    def __init__(
        self, attempt: AttemptId, store: AttemptStore, objects: ObjectStore, places: Places
    ) -> None:
        self.attempt = attempt
        self.guard = FollowGuard()
        self._store = store
        self._objects = objects
        self._places = places
        self._live: LiveObjects | None = None
        self._tails: dict[str, Tail] = {}
        # Pieces that were read and not stored yet. Each try writes the same bytes.
        self._unsent: dict[str, Piece] = {}
        self._has_failed = False

    def step(self) -> None:
        """Send what is new. A failure is logged, and the next step tries again."""
        try:
            self._step()
        except StoppedError:
            pass
        except _FAILURES as error:
            if not self._has_failed:
                self._has_failed = True
                why = describe(error)
                log.warning("no live output for now: %s", why, extra=self.attempt.log_fields)
        else:
            if self._has_failed:
                self._has_failed = False
                log.info("live output goes on", extra=self.attempt.log_fields)

    def written(self) -> set[str]:
        """Return the names of the live objects. Call it when no step runs."""
        return self._live.names() if self._live is not None else set()

    def close(self) -> None:
        """Close the logs."""
        for tail in self._tails.values():
            tail.close()

    def _step(self) -> None:
        live = self._live or self._begin()
        if live is None:
            return
        for stream, name in STREAMS.items():
            opened = self._places.open(self.attempt, name)
            if opened is not None:
                self._tails[stream].take(*opened)
        for stream, most in self._shares().items():
            piece = self._unsent.get(stream) or self._tails[stream].next(most)
            if piece is None:
                continue
            self._unsent[stream] = piece
            self._note()
            live.write(stream, piece)
            del self._unsent[stream]

    def _begin(self) -> LiveObjects | None:
        state = self._store.get(self.attempt)
        if state is None or state.grant is None:
            return None
        live = LiveObjects(self._objects, state.grant.bucketid, self.attempt, self.guard)
        # It was followed before, perhaps by an agent before this one.
        ends = live.adopt() if state.has_live_output else {}
        self._tails = {stream: Tail(ends.get(stream)) for stream in STREAMS}
        self._live = live
        return live

    def _shares(self) -> dict[str, int]:
        """Return how many bytes of each stream may be sent now."""
        out, err = (self._tails[stream].waiting() for stream in STREAMS)
        of_out = min(out, max(_MOST_AT_ONCE // 2, _MOST_AT_ONCE - err))
        return dict(zip(STREAMS, (of_out, min(err, _MOST_AT_ONCE - of_out))))

    def _note(self) -> None:
        """Note that there may be live objects, so that also a later agent removes them."""
        state = self._store.get(self.attempt)
        if state is not None and not state.has_live_output:
            self._store.update(self.attempt, sync=False, has_live_output=True)
