"""Slots: an allocation of Nomad that runs one attempt after the other.

Nomad places the first attempt of a slot. When its command has ended, or shortly before, the node
asks what the slot runs next. It may run the job that the feeder would dispatch next among those
with the same resources. The further attempt is an attempt like any other: it has a number, a start
grant, a lease to upload, and a receipt. docs/developers/scheduling.md says when a slot ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from leruli_queue.access.authenticate import Node
from leruli_queue.jobs.asking_slots import (
    AskingSlot,
    Resources,
    SlotGrant,
    SlotRequest,
    arrays,
)
from leruli_queue.jobs.attempts import AttemptId, StaleAttemptError, StartGrant
from leruli_queue.jobs.many_receipts import end_attempts
from leruli_queue.jobs.outcomes import Receipt
from leruli_queue.jobs.retries import Retries
from leruli_queue.jobs.slot_room import AGAIN_S, make_room, may_run, waiting_attempts
from leruli_queue.naming import image_in_nomad
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

# How many more jobs are read than granted: those that another call is granting are skipped.
_SPARE = 32
# Attempts are granted ahead while more jobs than these wait: they are for slots that ask soon.
_LEFT_FOR_OTHERS = 32


@dataclass(frozen=True)
class Turn:
    """What the slots of one node have to tell and ask."""

    receipts: Sequence[tuple[AttemptId, Receipt]] = ()
    # Their commands run.
    running: Sequence[AttemptId] = ()
    # Granted ahead, and not begun: another node may run them.
    returned: Sequence[AttemptId] = ()
    slots: Sequence[SlotRequest] = ()


@dataclass(frozen=True)
class Taken:
    """What became of the receipts, and what the slots run next."""

    receipts: dict[AttemptId, StaleAttemptError | None]
    slots: dict[AttemptId, list[SlotGrant]]


async def take_turn(connection: Connection, node: Node, turn: Turn, settings: Settings) -> Taken:
    """Take receipts and grant the next attempts; all of it can be repeated after a lost answer."""
    receipts = await end_attempts(connection, node, turn.receipts, Retries.of(settings))
    if turn.returned:
        # Jobs are locked in the order of their ids.
        in_order = sorted(turn.returned, key=lambda attempt: attempt.job_id)
        await queries.return_attempts(connection, node_id=node.id, **arrays(in_order))
    if turn.running:
        await queries.note_running_in_slots(connection, node_id=node.id, **arrays(turn.running))
    slots = await grant_next(connection, node, turn.slots, settings) if turn.slots else {}
    return Taken(receipts, slots)


async def grant_next(
    connection: Connection, node: Node, requests: Sequence[SlotRequest], settings: Settings
) -> dict[AttemptId, list[SlotGrant]]:
    """Grant the next attempts of slots; a slot that gets none is over.

    Each statement can be repeated: the same keys find what an earlier call granted.

    Parameters
    ----------
    connection
        In no transaction.
    requests
        At most one for each slot.

    Returns
    -------
    dict
        The grants by the first attempt of their slot, in the order in which they have to run.
    """
    slots = {request.first: AskingSlot(request) for request in requests}
    found = await _look_up(connection, node, slots, settings)
    if any(row["asked_before"] for row in found):
        await _repeat(connection, node, slots)
    rows_of_open = [row for row in found if row["is_open"] and not row["asked_before"]]
    is_open = [slots[AttemptId(row["job_id"], row["number"])] for row in rows_of_open]
    waiting = []
    if any(row["others_wait"] for row in rows_of_open):
        waiting = await waiting_attempts(connection, node, settings)
    goes_on = await make_room(connection, node, is_open, waiting)
    by_resources: defaultdict[Resources, list[AskingSlot]] = defaultdict(list)
    for slot in goes_on:
        by_resources[slot.resources].append(slot)
    for resources, alike in by_resources.items():
        await _grant(connection, node, resources, alike, waiting)
    return {first: slot.grants for first, slot in slots.items()}


async def _repeat(
    connection: Connection, node: Node, slots: Mapping[AttemptId, AskingSlot]
) -> None:
    """Grant again what the same keys were granted before."""
    found = await rows(
        queries.granted_before(
            connection,
            node_id=node.id,
            **arrays(slots),
            keys=[slot.request.key for slot in slots.values()],
        )
    )
    for row in found:
        slots[_slot_of(row)].grants.append(_grant_of(row))


async def _look_up(
    connection: Connection, node: Node, slots: Mapping[AttemptId, AskingSlot], settings: Settings
) -> list[Any]:
    """Return what is known of the slots, and note their resources and containers."""
    found = await rows(
        queries.asking_slots(
            connection,
            node_id=node.id,
            **arrays(slots),
            keys=[slot.request.key for slot in slots.values()],
            containers=[slot.request.container for slot in slots.values()],
            slot_max_s=settings.slot_max_s,
            wait_s=settings.slot_wait_s,
            again_s=AGAIN_S,
        )
    )
    for row in found:
        slot = slots[AttemptId(row["job_id"], row["number"])]
        slot.resources = (row["cores"], row["memory_mb"], row["nomad_memory_mb"], row["shm_mb"])
        slot.kept = (row["user_id"], row["code"], row["version"])
    return found


async def _grant(
    connection: Connection,
    node: Node,
    resources: Resources,
    slots: Sequence[AskingSlot],
    waiting: Sequence[Any],
) -> None:
    cores, memory_mb, nomad_memory_mb, shm_mb = resources
    seats = _in_turns(slots, [slot.request.most for slot in slots])
    # Nothing is granted ahead while another job waits for room that a slot's end can make.
    ahead = [] if waiting else _in_turns(slots, [slot.request.ahead for slot in slots])
    found = []
    overtaken = [row for row in waiting if row["waits_long"] and may_run(slots[0], row)]
    if overtaken:
        found = await rows(
            queries.run_in_slots(
                connection,
                group_id=node.group_id,
                node_id=node.id,
                nomad_memory_mb=nomad_memory_mb,
                **arrays(AttemptId(row["job_id"], row["number"]) for row in overtaken),
                **_seats(seats),
            )
        )
    seats = seats[len(found) :]
    if seats or ahead:
        found += await rows(
            queries.grant_in_slots(
                connection,
                group_id=node.group_id,
                node_id=node.id,
                cores=cores,
                memory_mb=memory_mb,
                nomad_memory_mb=nomad_memory_mb,
                shm_mb=shm_mb,
                # Calls beside this one may each be granting as many.
                spare=_SPARE + 4 * len(ahead),
                at_least=len(seats),
                left_for_others=_LEFT_FOR_OTHERS,
                **_seats([*seats, *ahead]),
            )
        )
    if found:
        await _deal(connection, slots, found)
        log.debug("slots run further attempts", node=str(node.id), attempts=len(found))


async def _deal(connection: Connection, slots: Sequence[AskingSlot], found: Sequence[Any]) -> None:
    """Deal attempts to slots, so that consecutive ones can share a container."""
    dealt = []
    for row in found:
        granted = _grant_of(row)
        chosen = _choose(granted, slots, _slot_of(row))
        chosen.grants.append(granted)
        if chosen.request.first != _slot_of(row):
            dealt.append((granted.attempt, chosen.request))
    if dealt:
        await queries.deal_again(
            connection,
            **arrays(attempt for attempt, _ in dealt),
            slot_jobs=[request.first.job_id for _, request in dealt],
            slot_numbers=[request.first.number for _, request in dealt],
            keys=[request.key for _, request in dealt],
        )


def _choose(granted: SlotGrant, slots: Sequence[AskingSlot], given: AttemptId) -> AskingSlot:
    """Choose a slot: one whose container the job can share, else the one that it was granted in.

    To choose another slot costs a statement, so a job that shares no container stays.
    """
    wanted = (granted.user_id, granted.grant.code, granted.grant.version)
    shares = granted.share_container
    # A slot that is granted none is over, so nothing is dealt ahead before each has one.
    free = [slot for slot in slots if len(slot.grants) < slot.request.most]
    free = free or [slot for slot in slots if slot.room]
    chosen = max(
        free,
        key=lambda slot: (shares and slot.kept == wanted, slot.request.first == given, slot.room),
    )
    if shares:
        chosen.kept = wanted
    return chosen


def _in_turns(slots: Sequence[AskingSlot], counts: Sequence[int]) -> list[AskingSlot]:
    """Return each slot as often as its count: a second time after the first ones of all."""
    turns = range(max(counts, default=0))
    return [
        slot for turn in turns for slot, count in zip(slots, counts, strict=True) if turn < count
    ]


def _seats(slots: Collection[AskingSlot]) -> dict[str, list[Any]]:
    return {
        "slot_jobs": [slot.request.first.job_id for slot in slots],
        "slot_numbers": [slot.request.first.number for slot in slots],
        "keys": [slot.request.key for slot in slots],
    }


def _slot_of(row: Any) -> AttemptId:
    return AttemptId(row["slot_job"], row["slot_number"])


def _grant_of(row: Any) -> SlotGrant:
    return SlotGrant(
        AttemptId(row["job_id"], row["number"]),
        StartGrant(
            bucket=row["bucket"],
            code=row["code"],
            version=row["version"],
            cores=row["cores"],
            memory_mb=row["memory_mb"],
            time_limit_s=row["time_limit_s"],
            disk_mb=row["disk_mb"],
            unmarked_output=row["unmarked_output"],
            batch=row["batch"],
            image=image_in_nomad(
                row["token_key_id"], row["token_hash"], row["code"], row["version"]
            ),
        ),
        row["user_id"],
        row["share_container"],
    )
