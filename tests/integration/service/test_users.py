from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from service_world import GroupOfTest, make_group, make_jobs, running_service, until_blocked

from leruli_queue.settings import Settings
from leruli_queue.store.locks import ADMINISTRATION_LOCKS
from leruli_queue.store.pool import Pool
from leruli_queue.store.queries import queries


async def post(service: httpx.AsyncClient, call: str, **body: Any) -> httpx.Response:
    return await service.post(f"/v22_1/{call}", json=body)


async def create(
    service: httpx.AsyncClient, group: GroupOfTest, name: str, *, admin: bool = False
) -> str:
    answer = await post(
        service, "group-create-user", adminsecret=group.admin_secret, name=name, admin=admin
    )
    assert answer.status_code == 200, answer.text
    secret: str = answer.json()
    return secret


async def revoke(service: httpx.AsyncClient, admin_secret: str, name: str) -> httpx.Response:
    return await post(service, "group-revoke-user", adminsecret=admin_secret, name=name)


async def names(service: httpx.AsyncClient, group: GroupOfTest, **more: Any) -> list[str]:
    answer = await post(service, "group-list-users", adminsecret=group.admin_secret, **more)
    return [user["name"] for user in answer.json()["users"]]


async def test_a_created_user_can_work_and_read_the_group_token(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    secret = await create(service, group, "grace")
    assert secret.startswith("lqa-")
    assert (await post(service, "group-token", secret=secret)).json() == group.token
    job = {"secret": secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}
    assert (await post(service, "task-submit", **job)).status_code == 200
    # A new user is not an admin by default.
    assert (await post(service, "group-list-users", adminsecret=secret)).status_code == 403
    admin = await create(service, group, "joan", admin=True)
    assert (await post(service, "group-list-users", adminsecret=admin)).status_code == 200


async def test_the_list_shows_everything_but_secrets(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    secret = await create(service, group, "grace")
    answer = await post(service, "group-list-users", adminsecret=group.admin_secret)
    users = {user["name"]: user for user in answer.json()["users"]}
    assert {name: user["role"] for name, user in users.items()} == {
        "ada": "user", "admin": "admin", "grace": "user"
    }  # fmt: skip
    assert users["grace"]["lastusedat"] is None
    assert users["admin"]["lastusedat"] >= users["admin"]["createdat"]
    for text in (secret, group.admin_secret, group.token):
        assert text.split("-")[2] not in answer.text
    assert users["grace"]["keyid"] == secret.split("-")[1]
    assert users["admin"]["keyid"] == group.admin_secret.split("-")[1]
    await post(service, "group-token", secret=secret)
    answer = await post(service, "group-list-users", adminsecret=group.admin_secret)
    assert {user["name"]: user for user in answer.json()["users"]}["grace"]["lastusedat"]


async def test_a_revoked_user_is_refused_and_the_jobs_stay(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    assert (await revoke(service, group.admin_secret, "ada")).json()["name"] == "ada"
    asked = {"jobid": str(job_id)}
    refused = await post(service, "task-status", secret=group.user_secret, **asked)
    assert refused.status_code == 403
    assert "revoked" in refused.json()["detail"]
    # The job continues, and admins see it.
    status = await post(service, "task-status", secret=group.admin_secret, **asked)
    assert status.json()["status"] == "received"
    bucket = await post(service, "task-bucket", secret=group.admin_secret, **asked)
    assert bucket.json()["bucketid"]
    assert await names(service, group) == ["admin"]
    assert await names(service, group, revoked=True) == ["admin", "ada"]


async def test_a_new_user_may_have_the_name_of_a_revoked_one(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    [job_id] = await make_jobs(pool, group, 1)
    await revoke(service, group.admin_secret, "ada")
    secret = await create(service, group, "ada")
    answer = await post(service, "task-status", secret=secret, jobid=str(job_id))
    assert answer.status_code == 404
    assert (
        await post(service, "task-status", secret=group.user_secret, jobid=str(job_id))
    ).status_code == 403
    activity = await post(service, "group-activity", grouptoken=group.token, user="ada")
    assert [job["jobid"] for job in activity.json()["jobs"]] == [str(job_id)]


async def test_a_refused_revocation_says_why(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    nobody = await revoke(service, group.admin_secret, "nobody")
    assert nobody.status_code == 404
    assert "group-list-users" in nobody.json()["detail"]
    await revoke(service, group.admin_secret, "ada")
    again = await revoke(service, group.admin_secret, "ada")
    assert again.status_code == 404
    assert "was revoked at 20" in again.json()["detail"]
    last = await revoke(service, group.admin_secret, "admin")
    assert last.status_code == 409
    assert "last admin" in last.json()["detail"]
    assert await names(service, group) == ["admin"]


async def test_an_admin_may_be_revoked_while_another_remains(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    second = await create(service, group, "joan", admin=True)
    assert (await revoke(service, group.admin_secret, "admin")).status_code == 200
    assert (await revoke(service, group.admin_secret, "joan")).status_code == 403
    assert (await revoke(service, second, "joan")).status_code == 409


async def test_one_of_two_admins_that_revoke_each_other_stays(
    settings: Settings, service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    second = await create(service, group, "joan", admin=True)
    async with running_service(settings) as copy, pool.acquire() as connection:
        async with connection.transaction():
            # Both have authenticated before the first of them gets the lock.
            await queries.hold_administration(
                connection, lock=ADMINISTRATION_LOCKS, group_id=group.id
            )
            revoking = asyncio.gather(
                revoke(service, group.admin_secret, "joan"), revoke(copy, second, "admin")
            )
            await until_blocked(pool, 2)
        answers = await revoking
    assert sorted(answer.status_code for answer in answers) == [200, 403]
    left = await pool.fetch(
        "SELECT name FROM users WHERE role = 'admin' AND revoked_at IS NULL AND group_id = $1",
        group.id,
    )
    assert len(left) == 1


@pytest.mark.parametrize(
    "name",
    ["", " ada", "ada ", "a  b", "-ada", "ada;", "ada\n", "a" * 64, "Ädä", "=cmd", "a\u202eb"],
)
async def test_a_forbidden_name_is_refused_with_the_rule(
    service: httpx.AsyncClient, group: GroupOfTest, name: str
) -> None:
    answer = await post(
        service, "group-create-user", adminsecret=group.admin_secret, name=name, admin=False
    )
    assert answer.status_code == 422
    assert "up to 63 letters" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["a", "a" * 63, "Ada Lovelace", "ada@example.org", "laptop-2_x"])
async def test_an_allowed_name_can_be_used_once(
    service: httpx.AsyncClient, group: GroupOfTest, name: str
) -> None:
    await create(service, group, name)
    answer = await post(service, "group-create-user", adminsecret=group.admin_secret, name=name)
    assert answer.status_code == 409
    assert name in answer.json()["detail"]


async def test_no_user_has_the_operators_name(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    answer = await post(
        service,
        "group-create-user",
        adminsecret=group.admin_secret,
        name="Operator of the service",
    )
    assert answer.status_code == 422


async def test_the_same_name_in_two_groups_is_two_users(
    service: httpx.AsyncClient, group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "physicists")
    assert (await revoke(service, other.admin_secret, "ada")).status_code == 200
    assert (await post(service, "group-token", secret=group.user_secret)).status_code == 200


async def test_the_key_id_of_a_leaked_secret_finds_its_user(
    service: httpx.AsyncClient, group: GroupOfTest
) -> None:
    """D8: secret-find printed a key id, but nobody could find or revoke its user by it."""
    secret = await create(service, group, "grace")
    key_id = secret.split("-")[1]
    for wrong in ({"name": "grace", "keyid": key_id}, {}, {"keyid": "AAAAAAAAAA"}):
        answer = await post(service, "group-revoke-user", adminsecret=group.admin_secret, **wrong)
        assert answer.status_code == 422, wrong
    unknown = {"adminsecret": group.admin_secret, "keyid": "aaaaaaaaaa"}
    answer = await post(service, "group-revoke-user", **unknown)
    assert (answer.status_code, "key id" in answer.json()["detail"]) == (404, True)
    answer = await post(service, "group-revoke-user", adminsecret=group.admin_secret, keyid=key_id)
    assert answer.json()["name"] == "grace"
    assert (await post(service, "group-token", secret=secret)).status_code == 403
    audit = await post(service, "group-audit", adminsecret=group.admin_secret)
    assert audit.json()["entries"][0]["subject"] == "grace"
