"""Rotation of the group token: who can still read, who gets the new one, what a dump reveals."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx
import pytest
from cryptography.fernet import InvalidToken
from service_world import (
    GroupOfTest,
    call,
    join,
    make_group,
    running_service,
    signing_request,
    until_blocked,
)

from leruli_queue.access import sealing
from leruli_queue.access.authenticate import authenticate_user
from leruli_queue.access.secrets import Secret, parse
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.group_token import group_token, rotate_group_token
from leruli_queue.groups.group_token import image_tokens as image_tokens_of
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


def key_id_of(token: str) -> str:
    return parse(token).key_id


async def rotate(service: httpx.AsyncClient, group: GroupOfTest, **fields: object) -> str:
    answer: str = await call(
        service, "group-rotate-token", adminsecret=group.admin_secret, **fields
    )
    return answer


async def token_of(service: httpx.AsyncClient, secret: str) -> str:
    answer: str = await call(service, "group-token", secret=secret)
    return answer


async def image_tokens(service: httpx.AsyncClient, secret: str) -> list[str]:
    answer: list[str] = (await call(service, "group-image-tokens", secret=secret))["tokens"]
    return answer


async def forget_public_keys(pool: Pool, group: GroupOfTest) -> None:
    """Make rows of users who have not called since tokens can be rotated."""
    for secret in map(parse, (group.admin_secret, group.user_secret)):
        await pool.execute(
            "UPDATE users SET public_key = NULL, sealed_key_id = NULL, group_token_sealed = $2 "
            "WHERE key_id = $1",
            secret.key_id,
            sealing.seal_under(secret, group.token),
        )


async def test_the_old_token_reads_nothing_and_all_users_have_the_new_one(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    """A former member could read for ever, because the group token could not be rotated."""
    assert (
        await service.post("/v22_1/group-activity", json={"grouptoken": group.token})
    ).is_success
    new = await rotate(service, group)
    assert new != group.token
    for path in ("group-activity", "group-usage", "group-nodes"):
        refused = await service.post(f"/v22_1/{path}", json={"grouptoken": group.token})
        assert refused.status_code == 403, path
        assert "was rotated at" in refused.json()["detail"]
        assert group.token not in refused.text
        await call(service, path, grouptoken=new)
    assert await token_of(service, group.user_secret) == new
    assert await token_of(service, group.admin_secret) == new
    made = await call(
        service, "group-create-user", adminsecret=group.admin_secret, name="eve", admin=False
    )
    assert await token_of(service, made) == new
    audit = await call(service, "group-audit", adminsecret=group.admin_secret)
    assert [entry["actor"] for entry in audit["entries"] if "token" in entry["action"]] == ["admin"]


async def test_only_admins_rotate(service: httpx.AsyncClient, group: GroupOfTest) -> None:
    refused = await service.post(
        "/v22_1/group-rotate-token", json={"adminsecret": group.user_secret}
    )
    assert refused.status_code == 403
    assert await token_of(service, group.user_secret) == group.token


async def test_users_without_a_stored_public_key_get_the_new_token_too(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    await forget_public_keys(pool, group)
    await rotate(service, group)
    newest = await rotate(service, group)
    assert await token_of(service, group.user_secret) == newest
    assert await token_of(service, group.admin_secret) == newest
    # Texts sealed under older tokens are deleted, as nobody needs them any more.
    assert not await pool.fetchval("SELECT count(sealed_under_last) FROM group_tokens")
    again = await rotate(service, group)
    assert await token_of(service, group.user_secret) == again
    assert not await pool.fetchval("SELECT count(sealed_under_last) FROM group_tokens")


async def test_a_dump_and_a_former_members_secrets_do_not_open_the_new_token(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    leaver = await call(
        service, "group-create-user", adminsecret=group.admin_secret, name="eve", admin=False
    )
    await token_of(service, leaver)
    await call(service, "group-revoke-user", adminsecret=group.admin_secret, name="eve")
    new = await rotate(service, group)
    sealed = [
        value
        for row in await pool.fetch("SELECT * FROM users")
        + await pool.fetch("SELECT * FROM group_tokens")
        for name, value in row.items()
        if value is not None and "sealed" in name and name != "sealed_key_id"
    ]
    assert len(sealed) >= 4
    known = [parse(leaver), parse(group.token)]
    opened = [opened_with(secret, box) for box in sealed for secret in known]
    assert group.token in opened
    assert new not in opened


def opened_with(secret: Secret, box: bytes) -> str | None:
    try:
        return sealing.unseal(box, secret)
    except InvalidToken:
        return None


async def test_a_prepared_token_is_valid_after_the_rotation_and_each_step_can_be_repeated(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    prepared = await rotate(service, group, prepare=True)
    assert await rotate(service, group, prepare=True) == prepared
    refused = await service.post("/v22_1/group-activity", json={"grouptoken": prepared})
    assert (refused.status_code, "not known" in refused.text) == (403, True)
    assert await token_of(service, group.user_secret) == group.token
    assert await image_tokens(service, group.user_secret) == [group.token]
    for _ in range(2):  # the first answer may be lost
        assert await rotate(service, group, newtoken=prepared) == prepared
    assert await image_tokens(service, group.user_secret) == [prepared, group.token]
    late = await service.post(
        "/v22_1/group-rotate-token",
        json={"adminsecret": group.admin_secret, "newtoken": group.token},
    )
    assert late.status_code == 409
    entries = (await call(service, "group-audit", adminsecret=group.admin_secret))["entries"]
    assert [entry["action"] for entry in entries].count("group-token-rotated") == 1


async def test_a_former_admin_does_not_know_a_later_token(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    """A token that an admin had prepared became valid after the admin's revocation."""
    leaver = await call(
        service, "group-create-user", adminsecret=group.admin_secret, name="eve", admin=True
    )
    known = await call(service, "group-rotate-token", adminsecret=leaver, prepare=True)
    await call(service, "group-revoke-user", adminsecret=group.admin_secret, name="eve")
    late = await service.post(
        "/v22_1/group-rotate-token",
        json={"adminsecret": group.admin_secret, "newtoken": known},
    )
    assert late.status_code == 409
    prepared = await rotate(service, group, prepare=True)
    assert prepared != known
    assert await rotate(service, group) == prepared
    refused = await service.post("/v22_1/group-activity", json={"grouptoken": known})
    assert refused.status_code == 403


async def test_a_call_during_a_rotation_gets_503(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    """Rows read before and after a rotation did not match, which was an internal error."""
    user = await authenticate_user(pool, group.user_secret)
    before = await image_tokens_of(pool, group.id, group.token)
    await rotate(service, group)
    assert await image_tokens_of(pool, group.id, group.token) == before
    with pytest.raises(UserReportableError, match="rotated at this moment"):
        await group_token(pool, user)


async def test_older_tokens_are_answered_until_the_images_have_moved(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    second = await rotate(service, group)
    third = await rotate(service, group)
    assert await image_tokens(service, group.user_secret) == [third, second, group.token]
    wrong = {"adminsecret": group.admin_secret, "grouptoken": second}
    assert (await service.post("/v22_1/group-images-moved", json=wrong)).status_code == 409
    moved = {"adminsecret": group.admin_secret, "grouptoken": third}
    assert await call(service, "group-images-moved", **moved) == {"forgotten": 2}
    assert await call(service, "group-images-moved", **moved) == {"forgotten": 0}
    assert await image_tokens(service, group.user_secret) == [third]


async def test_nodes_get_the_new_token_and_need_it_to_join_again(
    nomad_settings: Settings, pool: Pool
) -> None:
    group = await make_group(pool, "chemists")
    async with running_service(nomad_settings) as service:
        node = await join(service, group)
        assert node["imagetokens"] == [group.token]
        report = {"nodetoken": node["nodetoken"], "imagekeyid": key_id_of(group.token)}
        assert (await call(service, "node-report", **report))["imagetokens"] == []
        new = await rotate(service, group)
        assert (await call(service, "node-report", **report))["imagetokens"] == [new, group.token]
        shown = await call(service, "group-nodes", grouptoken=new)
        assert [one["knowsimages"] for one in shown["nodes"]] == [False]
        # Not the report of an older agent, which does not send the key id.
        await call(service, "node-report", nodetoken=node["nodetoken"])
        report["imagekeyid"] = key_id_of(new)
        await call(service, "node-report", **report)
        shown = await call(service, "group-nodes", grouptoken=new)
        assert [one["knowsimages"] for one in shown["nodes"]] == [True]
        machine = {"name": "machine", "cores": 1, "memorymb": 1000, "csr": signing_request()}
        refused = await service.post(
            "/v22_1/node-join",
            json=machine | {"grouptoken": group.token, "computesecret": group.compute_secret},
        )
        assert refused.status_code == 403
        assert "LERULI_GROUP_TOKEN of node.env" in refused.json()["detail"]
        again = await join(service, group, grouptoken=new, nodeid=node["nodeid"])
        assert again["imagetokens"] == [new, group.token]
        assert again["nomad"]["pool"] == node["nomad"]["pool"]
        assert again["imageprefix"] == node["imageprefix"]


async def test_a_node_that_joins_during_a_rotation_gets_the_new_token_or_is_refused(
    nomad_settings: Settings, pool: Pool
) -> None:
    group = await make_group(pool, "chemists")
    async with running_service(nomad_settings) as service:
        rotating = await asyncpg.connect(nomad_settings.database_url.get_secret_value())
        async with rotating.transaction():
            admin = await authenticate_user(rotating, group.admin_secret)
            await rotate_group_token(rotating, admin, None)
            machine = {"name": "machine", "cores": 1, "memorymb": 1000, "csr": signing_request()}
            secrets = {"grouptoken": group.token, "computesecret": group.compute_secret}
            joining = asyncio.create_task(service.post("/v22_1/node-join", json=machine | secrets))
            await until_blocked(pool, 1)
        refused = await joining
        await rotating.close()
    assert refused.status_code == 403, refused.text
    assert "LERULI_GROUP_TOKEN of node.env" in refused.json()["detail"]
