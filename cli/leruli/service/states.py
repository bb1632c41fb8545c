"""The states of a job, by the names of the service."""

from __future__ import annotations

#: In the order in which a job passes them.
STATES = ("received", "submitted", "running", "completed", "failed", "cancelled")

#: The states of a job that is over. Its bucket does not change any more.
FINAL = frozenset({"completed", "failed", "cancelled"})

#: The states of a job that is not over.
ACTIVE = frozenset(STATES) - FINAL
