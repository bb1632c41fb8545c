"""Room for attempts that wait in Nomad: slots end for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.asking_slots import AskingSlot
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

AGAIN_S = 10.0
"""An attempt that waits in Nomad gets one slot in this time, however many nodes ask."""

# As many attempts as a group can have waiting in Nomad, by default.
_MOST_WAITING = 200


async def waiting_attempts(connection: Connection, node: Node, settings: Settings) -> list[Any]:
    """Return the attempts that have waited in Nomad for long enough, the oldest first."""
    return await rows(
        queries.waiting_in_nomad(
            connection,
            group_id=node.group_id,
            node_id=node.id,
            wait_s=settings.slot_wait_s,
            again_s=AGAIN_S,
            limit=_MOST_WAITING,
        )
    )


async def make_room(
    connection: Connection, node: Node, slots: Sequence[AskingSlot], waiting: Sequence[Any]
) -> list[AskingSlot]:
    """End one slot for each waiting attempt that then fits the node; return the others.

    Attempts that a slot itself can run need no room.
    """
    left = sorted(slots, key=lambda slot: slot.resources[0])
    free = None
    for row in waiting:
        if not row["needs_room"] or any(may_run(slot, row) for slot in slots):
            continue
        if free is None:
            found = await queries.free_on_node(connection, node_id=node.id)
            free = (max(0, found["cores"]), max(0, found["memory_mb"]))
        enough = (slot for slot in left if _is_enough(slot, free, row))
        slot = next(enough, None)
        if slot is not None and await queries.make_room(
            connection,
            job_id=row["job_id"],
            number=row["number"],
            slot_job=slot.request.first.job_id,
            slot_number=slot.request.first.number,
            again_s=AGAIN_S,
        ):
            left.remove(slot)
            log.info("slot ends for a job that waits", node=str(node.id), job=str(row["job_id"]))
    return left


def _is_enough(slot: AskingSlot, free: tuple[int, int], row: Any) -> bool:
    """Tell whether a waiting job fits the node without this slot, and not beside it.

    After some seconds it does not matter whether it fits beside it: Nomad sees no room there.
    """
    needs = (row["cores"], row["nomad_memory_mb"])
    if free[0] >= needs[0] and free[1] >= needs[1]:
        return bool(row["waits_long"])
    cores, _, memory_mb, _ = slot.resources
    return bool(free[0] + cores >= needs[0] and free[1] + memory_mb >= needs[1])


def may_run(slot: AskingSlot, row: Any) -> bool:
    """Tell whether a slot may run a waiting attempt's job: it asks for exactly its resources."""
    cores, memory_mb, _, shm_mb = slot.resources
    asked = (row["cores"], row["memory_mb"], row["shm_mb"])
    return asked == (cores, memory_mb, shm_mb) and not row["chooses_nodes"]
