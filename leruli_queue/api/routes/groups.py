"""The group's token and its compute secret."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.access.authenticate import authenticate_admin, authenticate_user
from leruli_queue.api.context import ContextDep
from leruli_queue.api.schemas import PROBLEMS, WithAdminSecret, WithSecret
from leruli_queue.groups.compute_secret import rotate_compute_secret

router = APIRouter(tags=["groups"], responses=PROBLEMS)


@router.post("/group-token")
async def group_token(body: WithSecret, context: ContextDep) -> str:
    """Answer the group token of the user's group."""
    user = await authenticate_user(context.pool, body.secret)
    return user.group_token()


@router.post("/group-rotate-compute-secret")
async def group_rotate_compute_secret(body: WithAdminSecret, context: ContextDep) -> str:
    """Set or rotate the compute secret and answer the new one, shown this once."""
    async with context.pool.acquire() as connection, connection.transaction():
        admin = await authenticate_admin(connection, body.adminsecret)
        return await rotate_compute_secret(connection, admin.group_id)
