"""Make a new admin for a group whose admins lost their secrets, for the operator."""

from __future__ import annotations

from leruli_queue.access.authenticate import parse_secret
from leruli_queue.access.secrets import SecretType
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.lookup import find_group
from leruli_queue.groups.users import create_user
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries


async def create_admin(connection: Connection, group: str, group_token: str, name: str) -> str:
    """Make an admin of a group and return the API secret.

    Raises
    ------
    UserReportableError
        404 when there is no such group, 403 when the token is not the valid one, 409 or 422 for the
        name.
    """
    group_id = await find_group(connection, group)
    token = parse_secret(group_token, SecretType.GROUP, name="group token")
    row = await queries.group_by_name(connection, name=group)
    if not token.matches(row["token_hash"]):
        raise UserReportableError(
            f"This is not the token of the group {group!r}, or it was rotated.", status=403
        )
    return await create_user(connection, group_id, token.text, name=name, is_admin=True)
