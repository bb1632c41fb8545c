"""Groups with users, made by the functions that operators and admins use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group
from leruli_queue.groups.users import create_user


@dataclass(frozen=True)
class SimulatedGroup:
    """A group with all of its secrets."""

    name: str
    token: str = field(repr=False)
    compute_secret: str = field(repr=False)
    user_secrets: Sequence[str] = field(repr=False)


def make_groups(url: str, *, groups: int, users: int) -> list[SimulatedGroup]:
    """Make groups in the database, each with ``users`` users."""
    return asyncio.run(_make_groups(url, groups, users))


async def _make_groups(url: str, groups: int, users: int) -> list[SimulatedGroup]:
    connection = await asyncpg.connect(url)
    try:
        made = []
        for number in range(groups):
            group = await create_group(connection, f"group-{number}")
            compute_secret = await rotate_compute_secret(connection, group.id)
            user_secrets = [
                await create_user(
                    connection, group.id, group.group_token, name=f"user-{user}", is_admin=False
                )
                for user in range(users)
            ]
            made.append(SimulatedGroup(group.name, group.group_token, compute_secret, user_secrets))
        return made
    finally:
        await connection.close()
