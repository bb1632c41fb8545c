"""The group token: answer it to users, and rotate it.

The token names the bucket of the group's images, which the service never sees. So a rotation has
two parts: the service ends the old token for reading and joining, and an admin's client copies the
images. In between, both buckets may hold images. :func:`image_tokens` returns the tokens of all
buckets to search. docs/admins/security.md has the whole procedure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from leruli_queue.access import sealing
from leruli_queue.access.audit import Action, note_action
from leruli_queue.access.authenticate import User
from leruli_queue.access.secrets import MalformedSecretError, Secret, SecretType, make, parse
from leruli_queue.errors import UserReportableError
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import queries, rows


async def group_token(connection: Connection | Pool, user: User) -> str:
    """Return the valid group token, and store it sealed for the user's next call.

    Raises
    ------
    UserReportableError
        503 when the token was rotated after the user was authenticated.
    """
    earlier = _token(user.unseal_group_token())
    valid_key_id = await queries.valid_token_key_id(connection, group_id=user.group_id)
    if earlier.key_id == valid_key_id:
        return earlier.text
    # The rotation could not seal the new token for this user: the user's public key was unknown, as
    # the user had not called since the service stores public keys.
    tokens = await rows(queries.tokens_of_group(connection, group_id=user.group_id))
    valid = _follow(tokens, earlier)
    public_key = user.public_key
    await queries.seal_for_user(
        connection,
        user_id=user.id,
        public_key=public_key,
        sealed=sealing.seal_to(public_key, valid.text),
        token_key_id=valid.key_id,
        earlier=user.group_token_sealed,
    )
    await queries.clear_spent_links(connection, group_id=user.group_id)
    return valid.text


async def prepare_group_token(connection: Connection, admin: User) -> str:
    """Make the next group token, or return it if an admin has made it already.

    It is not valid yet. The present token stays valid, so there is time to copy the images. The
    caller has a transaction that holds the administration lock of the group.
    """
    valid = _token(await group_token(connection, admin))
    prepared = await _prepared(connection, admin.group_id)
    if prepared is not None:
        return sealing.unseal(prepared["sealed_under_last"], valid)
    return (await _make(connection, admin.group_id, valid)).text


async def rotate_group_token(connection: Connection, admin: User, prepared: str | None) -> str:
    """End the group token and return the next one, which is valid from now on.

    The next token is the prepared one, if there is one. The caller has a transaction that holds the
    administration lock of the group.

    Parameters
    ----------
    prepared
        The token that the caller expects to become valid. A repeated call changes nothing once this
        token is valid.

    Raises
    ------
    UserReportableError
        409 when ``prepared`` is neither the prepared token nor the valid one.
    """
    group_id = admin.group_id
    # Nodes that are joining have stored their token already, or wait for this transaction.
    await queries.seize_group_tokens(connection, group_id=group_id)
    valid = _token(await group_token(connection, admin))
    if prepared == valid.text:
        return valid.text
    row = await _prepared(connection, group_id)
    if prepared is not None and not _is(prepared, row):
        raise UserReportableError(
            "This is not the token that was prepared: another admin has rotated since. Prepare "
            "one again.",
            status=409,
        )
    if row is None:
        new = await _make(connection, group_id, valid)
    else:
        new = _token(sealing.unseal(row["sealed_under_last"], valid))
    await queries.end_token(
        connection, key_id=valid.key_id, sealed_under_next=sealing.seal_under(new, valid.text)
    )
    await queries.begin_token(connection, key_id=new.key_id)
    await _seal_for_all(connection, group_id, new)
    await queries.clear_spent_links(connection, group_id=group_id)
    await note_action(connection, group_id, Action.GROUP_TOKEN_ROTATED, actor_id=admin.id)
    return new.text


async def image_tokens(connection: Connection | Pool, group_id: int, valid: str) -> list[str]:
    """Return the tokens whose buckets may hold images: the valid token first, then older ones.

    Parameters
    ----------
    valid
        The valid token, or one that was valid a moment ago. Each older token is sealed under its
        successor.
    """
    tokens = await rows(queries.tokens_of_group(connection, group_id=group_id))
    found = [_token(valid)]
    older = takewhile(lambda row: row["key_id"] != found[0].key_id, tokens)
    for row in reversed([*older]):
        if row["sealed_under_next"] is None:
            break
        found.append(_token(sealing.unseal(row["sealed_under_next"], found[-1])))
    return [token.text for token in found]


async def forget_images(connection: Connection, admin: User, valid: str | None) -> int:
    """Forget the older tokens, whose buckets are gone. Return the number of forgotten tokens.

    Parameters
    ----------
    valid
        The token whose bucket has all images, if the caller wants it checked.

    Raises
    ------
    UserReportableError
        409 when ``valid`` is not the group token: the images are in the bucket of another token.
    """
    if valid is not None and valid != await group_token(connection, admin):
        raise UserReportableError(
            "This is not the group token: it was rotated again. Move the images once more.",
            status=409,
        )
    forgotten = await rows(queries.forget_ended_tokens(connection, group_id=admin.group_id))
    if forgotten:
        await note_action(connection, admin.group_id, Action.IMAGES_MOVED, actor_id=admin.id)
    return len(forgotten)


async def _seal_for_all(connection: Connection, group_id: int, token: Secret) -> None:
    """Seal the token for all users and nodes whose public key is known."""
    users = await rows(queries.users_to_seal_for(connection, group_id=group_id))
    await queries.seal_for_users(
        connection,
        ids=[user["id"] for user in users],
        sealed=[sealing.seal_to(user["public_key"], token.text) for user in users],
        token_key_id=token.key_id,
    )
    nodes = await rows(queries.nodes_to_seal_for(connection, group_id=group_id))
    await queries.seal_for_nodes(
        connection,
        ids=[node["id"] for node in nodes],
        sealed=[sealing.seal_to(node["public_key"], token.text) for node in nodes],
    )


async def _make(connection: Connection, group_id: int, valid: Secret) -> Secret:
    new = make(SecretType.GROUP)
    await queries.insert_prepared_token(
        connection,
        key_id=new.key_id,
        group_id=group_id,
        token_hash=new.hash,
        sealed_under_last=sealing.seal_under(valid, new.text),
    )
    return new


async def _prepared(connection: Connection, group_id: int) -> Any:
    tokens = await rows(queries.tokens_of_group(connection, group_id=group_id))
    return tokens[-1] if tokens[-1]["valid_from"] is None else None


def _follow(tokens: Sequence[Any], earlier: Secret) -> Secret:
    """Unseal token after token, from an earlier one to the valid one.

    Each token is sealed under the one before it.
    """
    begun = [row for row in tokens if row["valid_from"] is not None]
    [place] = [number for number, row in enumerate(begun) if row["key_id"] == earlier.key_id]
    found = earlier
    for row in begun[place + 1 :]:
        if row["sealed_under_last"] is None:
            raise UserReportableError(
                "The group token was rotated at this moment. Nothing was changed; try again.",
                status=503,
                retry_after=1,
            )
        found = _token(sealing.unseal(row["sealed_under_last"], found))
    return found


def _is(text: str, row: Any) -> bool:
    try:
        return row is not None and parse(text, SecretType.GROUP).matches(row["token_hash"])
    except MalformedSecretError:
        return False


def _token(text: str) -> Secret:
    return parse(text, SecretType.GROUP)
