"""Calls that follow jobs: events after a cursor, and waiting for the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request

from leruli_queue.access.authorise import authorise_reader, authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import Context, ContextDep
from leruli_queue.api.routes.bulk import parsed
from leruli_queue.api.schemas.common import problems
from leruli_queue.api.schemas.events import (
    Following,
    GroupEvents,
    GroupEventsAnswer,
    TaskEvents,
    TaskEventsAnswer,
)
from leruli_queue.api.waiting import Reading
from leruli_queue.jobs.batch_references import batches_named
from leruli_queue.jobs.batches import find_batch
from leruli_queue.jobs.events import (
    Cursor,
    Page,
    Wanted,
    begin,
    read_events,
    users_of_group,
)
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection

router = APIRouter(tags=["events"], responses=problems())

_FOLLOWING = {
    404: "No such batch, or not one that you may see.",
    410: "The cursor is too old. Begin again; the sentence says how.",
}


@dataclass(frozen=True)
class _Reader:
    """What a secret may read of what its owner asks for."""

    # The owner of the secret, as a text.
    name: str
    user_ids: list[int]
    # Numbers. None: jobs of all batches, and of none.
    batches: tuple[int, ...] | None = None


_Authorise = Callable[[Connection], Awaitable[_Reader]]


@router.post(f"/{Call.TASK_EVENTS}", responses=problems(_FOLLOWING))
async def task_events(body: TaskEvents, context: ContextDep, request: Request) -> TaskEventsAnswer:
    """Answer what changed among the user's own jobs since a cursor; wait if nothing did."""
    job_ids = None
    if body.jobids is not None:
        known = parsed(body.jobids, context.settings)
        job_ids = frozenset(job_id for job_id in known if job_id is not None)

    async def authorise(connection: Connection) -> _Reader:
        user = await authorise_user(connection, Call.TASK_EVENTS, body.secret)
        batches = None
        if body.batchid is not None:
            batches = ((await find_batch(connection, user, body.batchid)).number,)
        return _Reader(f"user {user.id}", [user.id], batches)

    wanted = Wanted(job_ids, states=_states(body), limit=body.limit)
    return TaskEventsAnswer.of(await _follow(context, request, body, wanted, authorise))


@router.post(f"/{Call.GROUP_EVENTS}", responses=problems(_FOLLOWING))
async def group_events(
    body: GroupEvents, context: ContextDep, request: Request
) -> GroupEventsAnswer:
    """Answer what changed among the group's jobs since a cursor; wait if nothing did."""

    async def authorise(connection: Connection) -> _Reader:
        group = await authorise_reader(connection, Call.GROUP_EVENTS, body.grouptoken)
        user_ids = await users_of_group(connection, group.id)
        batches = None
        if body.batch is not None:
            batches = await batches_named(connection, user_ids, body.batch)
        return _Reader(f"group {group.id}", user_ids, batches)

    wanted = Wanted(states=_states(body), limit=body.limit)
    return GroupEventsAnswer.of(await _follow(context, request, body, wanted, authorise))


def _states(body: Following) -> tuple[JobState, ...]:
    return tuple(JobState) if body.states is None else tuple(body.states)


async def _follow(
    context: Context, request: Request, body: Following, wanted: Wanted, authorise: _Authorise
) -> Page:
    async with context.reading() as connection:
        reader = await authorise(connection)
        if body.cursor is None:
            return await begin(connection)
    after = Cursor.parse(body.cursor)

    is_first = True

    async def read() -> Reading[Page]:
        nonlocal after, reader, is_first
        async with context.reading() as connection:
            if not is_first:
                # The secret may have been revoked during the wait.
                reader = await authorise(connection)
            is_first = False
            chosen = replace(wanted, batches=reader.batches)
            page = await read_events(connection, reader.user_ids, after, chosen)
            while page.more and not page.events and body.wait:
                page = await read_events(connection, reader.user_ids, page.cursor, chosen)
        after = page.cursor
        return Reading(page, is_done=bool(page.events))

    return await context.waits.until_done(
        read,
        request,
        bells=context.event_watch.bells,
        keys=reader.user_ids,
        owner=reader.name,
        wait_s=body.wait,
    )
