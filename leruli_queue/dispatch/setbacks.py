"""A failure in one group, or in one step of a round, does not end the work for the others.

Failures of the surroundings (Nomad, the database, leadership) are not handled here. Any other
failure is a defect, or a row that nobody expected. It is logged once per try. The pause before the
next try doubles, so that one group does not fill the log.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from leruli_queue.dispatch.leadership import LeadershipLostError
from leruli_queue.nomad.errors import NomadError
from leruli_queue.store.pool import DATABASE_AWAY

log = structlog.get_logger(__name__)

OUTAGES = (LeadershipLostError, NomadError, *DATABASE_AWAY)
"""Failures that concern every group: they end the duty, which is then started again."""

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


@dataclass
class _Setback:
    again_at: float
    pause_s: float


class Setbacks:
    """What failed lately, and when each is tried again."""

    def __init__(self) -> None:
        # By owner (group id or step) and by activity.
        self._setbacks: dict[tuple[Hashable, str], _Setback] = {}

    def paused(self) -> set[Hashable]:
        """Return the groups and steps that must not be tried yet."""
        now = time.monotonic()
        return {whose for (whose, _), setback in self._setbacks.items() if now < setback.again_at}

    @contextmanager
    def isolate(self, whose: Hashable, doing: str) -> Iterator[None]:
        """Log a failure of the block and pause its owner, instead of raising the failure.

        Parameters
        ----------
        whose
            The id of a group, or the name of a step. It is paused after a failure.
        doing
            The activity of the block.
        """
        try:
            yield
        except OUTAGES:
            raise
        except Exception as error:
            self.failed(whose, doing, error)
        else:
            self.worked(whose, doing)

    def failed(self, whose: Hashable, doing: str, error: BaseException) -> None:
        """Log a failure and pause its owner."""
        earlier = self._setbacks.get((whose, doing))
        pause_s = min(2 * earlier.pause_s, _LONGEST_PAUSE_S) if earlier else _FIRST_PAUSE_S
        self._setbacks[whose, doing] = _Setback(time.monotonic() + pause_s, pause_s)
        log.error(
            "a step or group failed; it is paused",
            whose=whose,
            doing=doing,
            again_in_s=pause_s,
            exc_info=error,
        )

    def worked(self, whose: Hashable, doing: str) -> None:
        """Forget earlier failures."""
        self._setbacks.pop((whose, doing), None)
