"""What one process has answered, for Prometheus.

Calls and statuses only: no group, user, job or address is a label, so that whoever may read the
metrics learns nothing about them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from leruli_queue.access.roles import Call

METRICS_TYPE = CONTENT_TYPE_LATEST
"""Content type of :meth:`Metrics.text`."""

_CALLS = frozenset(call.value for call in Call)
OTHER = "other"
"""Stands for every path that is not one of ours: anybody can make them up."""

_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def call_of(path: str) -> str:
    """Return the name of the call that a path leads to, or :data:`OTHER`."""
    call = path.removeprefix("/").removeprefix("v22_1/").removeprefix("latest/")
    return call if call in _CALLS else OTHER


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "leruli_queue_requests",
            "Requests that were answered.",
            ["call", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "leruli_queue_request_seconds",
            "Seconds from a request to its answer.",
            ["call"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def count(self, call: str, status: int, seconds: float) -> None:
        """Count an answered request of a call that :func:`call_of` named."""
        self._requests.labels(call, str(status)).inc()
        self._seconds.labels(call).observe(seconds)

    def text(self) -> bytes:
        """Return all of them in Prometheus's text format."""
        return generate_latest(self._registry)
