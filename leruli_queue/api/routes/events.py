"""Calls that follow jobs: events after a cursor, and waiting for the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

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

_OLD_CURSOR = {410: "The cursor is too old. Begin again; the sentence says how."}

Authorise = Callable[[Connection], Awaitable[tuple[str, list[int]]]]
"""Return the owner of the secret, as a text, and the users whose events may be read."""


@router.post(f"/{Call.TASK_EVENTS}", responses=problems(_OLD_CURSOR))
async def task_events(body: TaskEvents, context: ContextDep, request: Request) -> TaskEventsAnswer:
    """Answer what changed among the user's own jobs since a cursor; wait if nothing did."""
    job_ids = None
    if body.jobids is not None:
        known = parsed(body.jobids, context.settings)
        job_ids = frozenset(job_id for job_id in known if job_id is not None)

    async def authorise(connection: Connection) -> tuple[str, list[int]]:
        user = await authorise_user(connection, Call.TASK_EVENTS, body.secret)
        return f"user {user.id}", [user.id]

    wanted = Wanted(job_ids, _states(body), body.limit)
    return TaskEventsAnswer.of(await _follow(context, request, body, wanted, authorise))


@router.post(f"/{Call.GROUP_EVENTS}", responses=problems(_OLD_CURSOR))
async def group_events(
    body: GroupEvents, context: ContextDep, request: Request
) -> GroupEventsAnswer:
    """Answer what changed among the group's jobs since a cursor; wait if nothing did."""

    async def authorise(connection: Connection) -> tuple[str, list[int]]:
        group = await authorise_reader(connection, Call.GROUP_EVENTS, body.grouptoken)
        return f"group {group.id}", await users_of_group(connection, group.id)

    wanted = Wanted(None, _states(body), body.limit)
    return GroupEventsAnswer.of(await _follow(context, request, body, wanted, authorise))


def _states(body: Following) -> tuple[JobState, ...]:
    return tuple(JobState) if body.states is None else tuple(body.states)


async def _follow(
    context: Context, request: Request, body: Following, wanted: Wanted, authorise: Authorise
) -> Page:
    async with context.reading() as connection:
        owner, user_ids = await authorise(connection)
        if body.cursor is None:
            return await begin(connection)
    after = Cursor.parse(body.cursor)

    is_first = True

    async def read() -> Reading[Page]:
        nonlocal after, user_ids, is_first
        async with context.reading() as connection:
            if not is_first:
                # The secret may have been revoked during the wait.
                _, user_ids = await authorise(connection)
            is_first = False
            page = await read_events(connection, user_ids, after, wanted)
            while page.more and not page.events and body.wait:
                page = await read_events(connection, user_ids, page.cursor, wanted)
        after = page.cursor
        return Reading(page, is_done=bool(page.events))

    return await context.waits.until_done(
        read,
        request,
        bells=context.event_watch.bells,
        keys=user_ids,
        owner=owner,
        wait_s=body.wait,
    )
