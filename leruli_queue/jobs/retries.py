"""How often, and after how long, a job is tried again when the platform failed it."""

from __future__ import annotations

from dataclasses import dataclass

from leruli_queue.settings import Settings


@dataclass(frozen=True)
class Retries:
    """The rule: so many failures of the platform, the wait doubled after each.

    Without a wait, one broken node that fails every job within a second would use up all the
    attempts of the whole backlog.
    """

    max_attempts: int
    delay_s: float

    @classmethod
    def of(cls, settings: Settings) -> Retries:
        """Return what the settings say."""
        return cls(settings.max_attempts, settings.retry_delay_s)
