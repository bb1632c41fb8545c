"""Reserves a node for a large job that small ones would starve.

Nomad gives a freed slot to any job that fits. So a job that needs much of a node may wait for ever
while small jobs come and go. After LERULI_QUEUE_PLACE_PATIENCE_S one node of its group is reserved
for it:

- Jobs that are dispatched from then on are not placed there.
- Jobs that run there end in their time, and then the large job gets the node.
- All other nodes go on as before.

Where slots run short jobs one after the other, this is done after some seconds: the node is free as
soon as these have ended.

The reservation is stored with the node. So a new dispatcher honours it, and the service can say why
a job waits.
"""

from __future__ import annotations

from typing import Any

import structlog

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

# As long as a job waits for the end of one slot that is large enough (leruli_queue.jobs.slot_room).
_AFTER_SLOTS_S = 10.0


class Reservations:
    """Reserves nodes of a cluster's groups for jobs, and releases them."""

    def __init__(self, settings: Settings, pool: Pool, cluster: str) -> None:
        self._reserve_after_s = settings.place_patience_s
        self._pool = pool
        self._cluster = cluster

    async def renew(self) -> None:
        """Release reservations that are not needed any more, then reserve where a job starves."""
        arguments: dict[str, Any] = {
            "cluster": self._cluster,
            "reserve_after_s": self._reserve_after_s,
        }
        for row in await rows(queries.release_reserved_nodes(self._pool, **arguments)):
            log.info("node reserved for no job any more", node=str(row["node_id"]))
        arguments["after_slots_s"] = _AFTER_SLOTS_S
        for row in await rows(queries.reserve_nodes(self._pool, **arguments)):
            log.info("node reserved for a job", node=str(row["node_id"]), job=str(row["job_id"]))
