"""Metrics of one process for Prometheus: its answers, and whether jobs are dispatched.

Labels are calls and statuses only. No group, user, job or address is a label, so readers of the
metrics learn nothing about them.
"""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from leruli_queue.access.roles import Call

METRICS_TYPE = CONTENT_TYPE_LATEST
"""Content type of :meth:`Metrics.text`."""

_CALLS = frozenset(call.value for call in Call)
OTHER = "other"
"""Label of all unknown paths. Clients can invent any number of them."""

_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def call_of(path: str) -> str:
    """Return the name of the call at a path, or :data:`OTHER`."""
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

        self._silence = Gauge(
            "leruli_queue_dispatcher_silence_seconds",
            "Seconds since the last heartbeat of the active dispatcher, in the Nomad cluster where "
            "it is longest; NaN while unknown.",
            registry=self._registry,
        )
        self._nomad_away = Gauge(
            "leruli_queue_nomad_away_seconds",
            "Seconds for which no dispatcher has been able to use Nomad, in the cluster where it "
            "is longest; 0 while all work, NaN while unknown.",
            registry=self._registry,
        )

    def note_dispatchers(self, silence_s: float | None, nomad_away_s: float | None) -> None:
        """Set the dispatchers' metrics from the database; None if unknown."""
        self._silence.set(math.nan if silence_s is None else silence_s)
        self._nomad_away.set(math.nan if nomad_away_s is None else nomad_away_s)

    def count(self, call: str, status: int, seconds: float) -> None:
        """Count an answered request; ``call`` is a name of :func:`call_of`."""
        self._requests.labels(call, str(status)).inc()
        self._seconds.labels(call).observe(seconds)

    def text(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self._registry)
