"""The states of a job, as the service calls them."""

from __future__ import annotations

#: In the order in which a job has them.
STATES = ("received", "submitted", "running", "completed", "failed", "cancelled")

#: Those of a job that is over. Its bucket changes no more.
FINAL = frozenset({"completed", "failed", "cancelled"})

#: Those of a job that waits or runs.
ACTIVE = frozenset(STATES) - FINAL
