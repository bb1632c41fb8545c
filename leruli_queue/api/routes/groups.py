"""Calls about a group: its token and secrets, users, activity, usage and audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Response

from leruli_queue.access.audit import Action, audit_page
from leruli_queue.access.authenticate import Group
from leruli_queue.access.authorise import authorise_reader, authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import Context, ContextDep, LongCall
from leruli_queue.api.schemas.common import WithAdminSecret, WithSecret, problems
from leruli_queue.api.schemas.groups import (
    Activity,
    ActivityAnswer,
    Audit,
    AuditAnswer,
    AuditEntry,
    CreateUser,
    ImagesMoved,
    ImagesMovedAnswer,
    ImageTokensAnswer,
    ListedUser,
    ListUsers,
    ListUsersAnswer,
    RevokeUser,
    RevokeUserAnswer,
    RotateToken,
    Usage,
    UsageAnswer,
    UsageAnswerRow,
    UsageFormat,
)
from leruli_queue.api.schemas.tasks import ActivityJob
from leruli_queue.groups.activity import group_activity
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.group_token import (
    forget_images,
    group_token,
    image_tokens,
    prepare_group_token,
    rotate_group_token,
)
from leruli_queue.groups.names import OPERATOR
from leruli_queue.groups.usage import as_csv, group_usage
from leruli_queue.groups.users import create_user, list_users, revoke_user
from leruli_queue.jobs.listing import Filter
from leruli_queue.jobs.states import JobState
from leruli_queue.store.pool import Connection

router = APIRouter(tags=["groups"], responses=problems())


@router.post(f"/{Call.GROUP_TOKEN}")
async def group_token_(body: WithSecret, context: ContextDep) -> str:
    """Answer the group token of the user's group."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.GROUP_TOKEN, body.secret)
        return await group_token(connection, user)


@router.post(
    f"/{Call.GROUP_CREATE_USER}",
    responses=problems({409: "The name is in use."}),
)
async def group_create_user(body: CreateUser, context: ContextDep) -> str:
    """Make a user and answer the API secret, shown this once."""
    async with context.writing() as connection:
        admin = await authorise_user(connection, Call.GROUP_CREATE_USER, body.adminsecret)
        return await create_user(
            connection,
            admin.group_id,
            await group_token(connection, admin),
            name=body.name,
            is_admin=body.admin,
            by=admin.id,
        )


@router.post(
    f"/{Call.GROUP_REVOKE_USER}",
    responses=problems(
        {404: "No user has the name or key id (any more).", 409: "It is the last admin."}
    ),
)
async def group_revoke_user(body: RevokeUser, context: ContextDep) -> RevokeUserAnswer:
    """Revoke a user's secret, at once and in every copy of the service. Jobs and data stay."""
    async with context.writing() as connection:
        admin = await authorise_user(connection, Call.GROUP_REVOKE_USER, body.adminsecret)
        revoked = await revoke_user(
            connection, admin.group_id, body.name, key_id=body.keyid, by=admin.id
        )
    return RevokeUserAnswer(name=revoked.name, revokedat=revoked.at)


@router.post(f"/{Call.GROUP_LIST_USERS}")
async def group_list_users(body: ListUsers, context: ContextDep) -> ListUsersAnswer:
    """List the users of the group, without their secrets."""
    async with context.reading() as connection:
        admin = await authorise_user(connection, Call.GROUP_LIST_USERS, body.adminsecret)
        members = await list_users(connection, admin.group_id, with_revoked=body.revoked)
    return ListUsersAnswer(
        users=[
            ListedUser(
                name=member.name,
                role=member.role,
                keyid=member.key_id,
                createdat=member.created_at,
                lastusedat=member.last_used_at,
                revokedat=member.revoked_at,
            )
            for member in members
        ]
    )


@router.post(f"/{Call.GROUP_ROTATE_COMPUTE_SECRET}")
async def group_rotate_compute_secret(body: WithAdminSecret, context: ContextDep) -> str:
    """Set or rotate the compute secret and answer the new one, shown this once."""
    async with context.writing() as connection:
        admin = await authorise_user(connection, Call.GROUP_ROTATE_COMPUTE_SECRET, body.adminsecret)
        return await rotate_compute_secret(connection, admin.group_id, by=admin.id)


@router.post(
    f"/{Call.GROUP_ROTATE_TOKEN}",
    responses=problems({409: "Another token was prepared or became valid meanwhile."}),
)
async def group_rotate_token(body: RotateToken, context: ContextDep) -> str:
    """Rotate the group token and answer the next one; or only prepare the next one."""
    async with context.writing() as connection:
        admin = await authorise_user(connection, Call.GROUP_ROTATE_TOKEN, body.adminsecret)
        if body.prepare:
            return await prepare_group_token(connection, admin)
        return await rotate_group_token(connection, admin, body.newtoken)


@router.post(f"/{Call.GROUP_IMAGE_TOKENS}")
async def group_image_tokens(body: WithSecret, context: ContextDep) -> ImageTokensAnswer:
    """Answer the tokens whose buckets may hold images of the group, the group token first."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.GROUP_IMAGE_TOKENS, body.secret)
        token = await group_token(connection, user)
        return ImageTokensAnswer(tokens=await image_tokens(connection, user.group_id, token))


@router.post(
    f"/{Call.GROUP_IMAGES_MOVED}",
    responses=problems({409: "It is not the group token (any more)."}),
)
async def group_images_moved(body: ImagesMoved, context: ContextDep) -> ImagesMovedAnswer:
    """Note that all images are in the group token's bucket, and that older buckets are gone."""
    async with context.writing() as connection:
        admin = await authorise_user(connection, Call.GROUP_IMAGES_MOVED, body.adminsecret)
        return ImagesMovedAnswer(forgotten=await forget_images(connection, admin, body.grouptoken))


@router.post(
    f"/{Call.GROUP_ACTIVITY}",
    responses=problems({404: "No user ever had the name, or there is no such batch."}),
)
async def group_activity_(body: Activity, context: ContextDep) -> ActivityAnswer:
    """List the jobs of the group, newest first."""
    states = tuple(JobState) if body.states is None else tuple(body.states)
    wanted = Filter(states, body.since, body.until, body.after)
    token = body.grouptoken
    async with _long_read(context, LongCall.ACTIVITY, Call.GROUP_ACTIVITY, token) as reader:
        connection, group = reader
        jobs = await group_activity(connection, group.id, body.user, body.batch, wanted, body.limit)
    return ActivityAnswer(
        jobs=[ActivityJob.of(job) for job in jobs],
        next=jobs[-1].id if len(jobs) == body.limit else None,
    )


@asynccontextmanager
async def _long_read(
    context: Context, kind: LongCall, call: Call, token: str
) -> AsyncIterator[tuple[Connection, Group]]:
    """Lend a connection for a long call with a group token."""
    async with context.reading() as connection:
        group = await authorise_reader(connection, call, token)
    async with context.long_call(kind, group.id), context.reading() as connection:
        # Authorise again: during the wait the group may have been disabled or its token rotated.
        yield connection, await authorise_reader(connection, call, token)


@router.post(
    f"/{Call.GROUP_USAGE}",
    response_model=UsageAnswer,
    responses=problems({404: "There is no such batch."})
    | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def group_usage_(body: Usage, context: ContextDep) -> UsageAnswer | Response:
    """Sum up the usage of jobs that have ended, by what is asked for, as JSON or CSV."""
    async with _long_read(context, LongCall.USAGE, Call.GROUP_USAGE, body.grouptoken) as reader:
        connection, group = reader
        found = await group_usage(connection, group.id, body.by, body.since, body.until, body.batch)
    answer = UsageAnswer(
        rows=[
            UsageAnswerRow(
                user=row.user,
                code=row.code,
                month=row.month,
                jobs=row.jobs,
                completed=row.completed,
                failed=row.failed,
                cancelled=row.cancelled,
                corehours=row.core_hours,
                measuredcorehours=row.measured_core_hours,
                cpuhours=row.cpu_hours,
                batchid=row.batch_id,
                batchname=row.batch_name,
            )
            for row in found
        ]
    )
    if body.format is UsageFormat.JSON:
        return answer
    columns = list(UsageAnswerRow.model_fields)
    lines = ([getattr(row, column) for column in columns] for row in answer.rows)
    return Response(as_csv(columns, lines), media_type="text/csv")


@router.post(f"/{Call.GROUP_AUDIT}")
async def group_audit(body: Audit, context: ContextDep) -> AuditAnswer:
    """List who did what in the group, newest first."""
    async with context.reading() as connection:
        admin = await authorise_user(connection, Call.GROUP_AUDIT, body.adminsecret)
        entries = await audit_page(
            connection,
            admin.group_id,
            actions=list(Action) if body.action is None else [body.action],
            since=body.since,
            until=body.until,
            before_id=body.after,
            limit=body.limit,
        )
    return AuditAnswer(
        entries=[
            AuditEntry(
                id=entry.id,
                at=entry.at,
                actor=entry.actor or OPERATOR,
                action=entry.action,
                subject=entry.subject,
                detail=entry.detail,
            )
            for entry in entries
        ],
        next=entries[-1].id if len(entries) == body.limit else None,
    )
