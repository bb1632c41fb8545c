"""A group: its token and secrets, its users, what it does and what was done in it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from leruli_queue.access.authorise import authorise_reader, authorise_user
from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.group_schemas import (
    Activity,
    ActivityAnswer,
    ActivityJob,
    Audit,
    AuditAnswer,
    AuditEntry,
    CreateUser,
    ListedUser,
    ListUsers,
    ListUsersAnswer,
    RevokeUser,
    RevokeUserAnswer,
    Usage,
    UsageAnswer,
    UsageAnswerRow,
    UsageFormat,
)
from leruli_queue.api.schemas import WithAdminSecret, WithSecret, problems
from leruli_queue.groups.activity import group_activity
from leruli_queue.groups.audit import Action, audit_page
from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.names import OPERATOR
from leruli_queue.groups.usage import as_csv, group_usage
from leruli_queue.groups.users import create_user, list_users, revoke_user
from leruli_queue.jobs.listing import Filter
from leruli_queue.jobs.states import JobState

router = APIRouter(tags=["groups"], responses=problems())


@router.post(f"/{Call.GROUP_TOKEN}")
async def group_token(body: WithSecret, context: ContextDep) -> str:
    """Answer the group token of the user's group."""
    async with context.reading() as connection:
        user = await authorise_user(connection, Call.GROUP_TOKEN, body.secret)
    return user.group_token()


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
            admin.group_token(),
            name=body.name,
            is_admin=body.admin,
            by=admin.id,
        )


@router.post(
    f"/{Call.GROUP_REVOKE_USER}",
    responses=problems({404: "Nobody has the name (any more).", 409: "It is the last admin."}),
)
async def group_revoke_user(body: RevokeUser, context: ContextDep) -> RevokeUserAnswer:
    """End a user's secret, at once and in every copy of the service; jobs and data stay."""
    async with context.writing() as connection:
        admin = await authorise_user(connection, Call.GROUP_REVOKE_USER, body.adminsecret)
        revoked_at = await revoke_user(connection, admin.group_id, body.name, by=admin.id)
    return RevokeUserAnswer(name=body.name, revokedat=revoked_at)


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
    f"/{Call.GROUP_ACTIVITY}",
    responses=problems({404: "Nobody ever had the name."}),
)
async def group_activity_(body: Activity, context: ContextDep) -> ActivityAnswer:
    """List the jobs of the group, newest first."""
    states = tuple(JobState) if body.states is None else tuple(body.states)
    wanted = Filter(states, body.since, body.until, body.after)
    async with context.reading() as connection:
        group = await authorise_reader(connection, Call.GROUP_ACTIVITY, body.grouptoken)
        jobs = await group_activity(connection, group.id, body.user, wanted, body.limit)
    return ActivityAnswer(
        jobs=[ActivityJob.of(job) for job in jobs],
        next=jobs[-1].id if len(jobs) == body.limit else None,
    )


@router.post(
    f"/{Call.GROUP_USAGE}",
    response_model=UsageAnswer,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def group_usage_(body: Usage, context: ContextDep) -> UsageAnswer | Response:
    """Sum up what the jobs that have ended used: by user, code and month, as JSON or CSV."""
    async with context.long_call(), context.reading() as connection:
        group = await authorise_reader(connection, Call.GROUP_USAGE, body.grouptoken)
        found = await group_usage(connection, group.id, body.by, body.since, body.until)
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
