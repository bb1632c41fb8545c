"""How often, and after which delay, a job is tried again after a failure of the platform."""

from __future__ import annotations

from dataclasses import dataclass, field

from leruli_queue.jobs.quarantine import Quarantine
from leruli_queue.settings import Settings


@dataclass(frozen=True)
class Retries:
    """Limits of the retries; the delay doubles after each failure of the platform.

    Without a delay, a few minutes of trouble on all nodes would use up all attempts of the whole
    backlog. Trouble of one node is what ``quarantine`` is for.
    """

    max_attempts: int
    delay_s: float
    quarantine: Quarantine = field(default_factory=Quarantine)

    @classmethod
    def of(cls, settings: Settings) -> Retries:
        """Return the limits of the settings."""
        return cls(settings.max_attempts, settings.retry_delay_s, Quarantine.of(settings))
