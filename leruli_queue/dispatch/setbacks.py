"""What fails for one group, or in one step of a round, does not end the work for the others.

Every cause that is not one of the surroundings (Nomad, the database, leadership) is a defect, or a
row that nobody expected. It is logged once a try. The next try comes after a pause that doubles, so
that one group fills no log.
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

SURROUNDINGS = (LeadershipLostError, NomadError, *DATABASE_AWAY)
"""Failures that concern everybody: whoever meets one stops, and the duty is begun again."""

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


@dataclass
class _Setback:
    again_at: float
    pause_s: float


class Setbacks:
    """What failed lately, and when each is tried again."""

    def __init__(self) -> None:
        # By whose work it is, and what was done of it.
        self._setbacks: dict[tuple[Hashable, str], _Setback] = {}

    def held(self) -> set[Hashable]:
        """Return whose work is not to be tried yet."""
        now = time.monotonic()
        return {whose for (whose, _), setback in self._setbacks.items() if now < setback.again_at}

    @contextmanager
    def apart(self, whose: Hashable, doing: str) -> Iterator[None]:
        """Keep what fails inside of the block from whoever runs it.

        Parameters
        ----------
        whose
            The id of a group, or the name of a step: what waits after a failure.
        doing
            What is done in the block.
        """
        try:
            yield
        except SURROUNDINGS:
            raise
        except Exception as error:
            self.failed(whose, doing, error)
        else:
            self.worked(whose, doing)

    def failed(self, whose: Hashable, doing: str, error: BaseException) -> None:
        """Log a failure, and let its cause wait."""
        earlier = self._setbacks.get((whose, doing))
        pause_s = min(2 * earlier.pause_s, _LONGEST_PAUSE_S) if earlier else _FIRST_PAUSE_S
        self._setbacks[whose, doing] = _Setback(time.monotonic() + pause_s, pause_s)
        log.error(
            "this failed; everything else goes on",
            whose=whose,
            doing=doing,
            again_in_s=pause_s,
            exc_info=error,
        )

    def worked(self, whose: Hashable, doing: str) -> None:
        """Forget that it failed before."""
        self._setbacks.pop((whose, doing), None)
