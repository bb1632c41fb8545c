"""How often, and after how long, a job is tried again when the platform failed it."""

from __future__ import annotations

from dataclasses import dataclass, field

from leruli_queue.jobs.quarantine import Quarantine
from leruli_queue.settings import Settings


@dataclass(frozen=True)
class Retries:
    """The rule: so many failures of the platform, the wait doubled after each.

    Without a wait, a trouble of some minutes that all nodes have would use up all the attempts of
    the whole backlog. One node alone is held back: ``quarantine``.
    """

    max_attempts: int
    delay_s: float
    quarantine: Quarantine = field(default_factory=Quarantine)

    @classmethod
    def of(cls, settings: Settings) -> Retries:
        """Return what the settings say."""
        return cls(settings.max_attempts, settings.retry_delay_s, Quarantine.of(settings))
