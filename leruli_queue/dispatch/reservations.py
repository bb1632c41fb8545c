"""A node is kept for a large job that small ones would starve.

Nomad gives a freed slot to whatever fits it. So a job that needs much of a node may wait for ever
while jobs that need little come and go. After LERULI_QUEUE_PLACE_PATIENCE_S one node of its group
is kept for it: what is dispatched from then on may not be placed there, what runs there ends in its
time, and the job takes the room. Every other node goes on. It is written down at the node, so a new
dispatcher keeps it as well, and the service can say why a job waits.
"""

from __future__ import annotations

import structlog

from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)


class Reservations:
    """Keeps nodes of a cluster's groups for jobs, and gives them free again."""

    def __init__(self, settings: Settings, pool: Pool, cluster: str) -> None:
        self._patience_s = settings.place_patience_s
        self._pool = pool
        self._cluster = cluster

    async def renew(self) -> None:
        """Give free what is not needed any more, then keep a node where a job starves."""
        arguments = {"cluster": self._cluster, "patience_s": self._patience_s}
        for row in await rows(queries.release_nodes(self._pool, **arguments)):
            log.info("node kept for no job any more", node=str(row["node_id"]))
        for row in await rows(queries.reserve_nodes(self._pool, **arguments)):
            log.info("node kept for a job", node=str(row["node_id"]), job=str(row["job_id"]))
