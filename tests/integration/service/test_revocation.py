"""After the answer to a revocation, no copy of the service accepts a job with the secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import httpx
import pytest
from service_world import GroupOfTest, holding, make_group, running_service, until_blocked

from leruli_queue.groups.disabling import disable_group
from leruli_queue.groups.users import create_user
from leruli_queue.settings import Settings
from leruli_queue.store.locks import SECRET_LOCKS
from leruli_queue.store.pool import Pool

_Answer = TypeVar("_Answer")

UNKNOWN = "This API secret is not known, or it was revoked. Ask an admin of the group."


@pytest.fixture
async def copies(settings: Settings) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two copies of the service on one database."""
    quick = settings.model_copy(update={"refusal_delay_s": 0})
    async with running_service(quick) as one, running_service(quick) as other:
        yield [one, other]


def job(secret: str) -> dict[str, object]:
    return {"secret": secret, "bucketid": str(uuid4()), "codeversion": "psi4:1.5"}


async def submit(service: httpx.AsyncClient, secret: str, *, in_bulk: bool) -> tuple[int, str]:
    """The status of the single job, and its id or the reason of its refusal."""
    if in_bulk:
        answer = await service.post("/v22_1/bulk/task-submit", json=[job(secret)])
        [entry] = answer.json()
        return entry["status"], entry["data"]
    answer = await service.post("/v22_1/task-submit", json=job(secret))
    data = answer.json()
    return answer.status_code, data if isinstance(data, str) else data["detail"]


async def submit_until_refused(
    service: httpx.AsyncClient,
    secret: str,
    *,
    in_bulk: bool,
    first_accepted: asyncio.Event | None = None,
) -> list[tuple[float, str]]:
    """The time at which each accepted submission was sent, and its bucket."""
    accepted = []
    while True:
        body = job(secret)
        sent = time.monotonic()
        if in_bulk:
            answer = await service.post("/v22_1/bulk/task-submit", json=[body])
            status = answer.json()[0]["status"]
        else:
            answer = await service.post("/v22_1/task-submit", json=body)
            status = answer.status_code
        if status == 403:
            return accepted
        assert status == 200, answer.text
        accepted.append((sent, str(body["bucketid"])))
        if first_accepted is not None:
            first_accepted.set()


async def test_no_submit_is_accepted_after_the_answer_to_the_revocation(
    copies: list[httpx.AsyncClient], group: GroupOfTest, pool: Pool
) -> None:
    """Eight users submit without a pause, and eight revocations happen meanwhile."""
    async with pool.acquire() as connection:
        secrets = {
            f"user {number}": await create_user(
                connection, group.id, group.token, name=f"user {number}", is_admin=False
            )
            for number in range(8)
        }

    begun = {name: asyncio.Event() for name in secrets}

    async def revoke(number: int, name: str) -> tuple[float, int]:
        await asyncio.wait_for(begun[name].wait(), 30)
        await asyncio.sleep(0.1 + 0.05 * number)
        answer = await copies[number % 2].post(
            "/v22_1/group-revoke-user", json={"adminsecret": group.admin_secret, "name": name}
        )
        assert answer.status_code == 200, answer.text
        answered = time.monotonic()
        jobs = await pool.fetchval(
            "SELECT count(*) FROM jobs j JOIN users u ON u.id = j.user_id WHERE u.name = $1", name
        )
        return answered, jobs

    submissions = [
        submit_until_refused(
            copies[number % 2], secret, in_bulk=number % 4 < 2, first_accepted=begun[name]
        )
        for name, secret in secrets.items()
        for number in range(2)
    ]
    results = await asyncio.gather(
        asyncio.gather(*submissions),
        asyncio.gather(*(revoke(number, name) for number, name in enumerate(secrets))),
    )
    for index, (name, (answered, jobs)) in enumerate(zip(secrets, results[1], strict=True)):
        accepted = results[0][2 * index] + results[0][2 * index + 1]
        assert accepted, "nothing was submitted before the revocation: it shows nothing"
        assert all(sent < answered for sent, _ in accepted)
        # No job arrived after the answer.
        assert jobs == len(accepted)
        assert jobs == await pool.fetchval(
            "SELECT count(*) FROM jobs j JOIN users u ON u.id = j.user_id WHERE u.name = $1", name
        )


async def behind_a_revocation(
    submission: Coroutine[Any, Any, _Answer],
    copy: httpx.AsyncClient,
    group: GroupOfTest,
    settings: Settings,
    pool: Pool,
) -> _Answer:
    """Let a submission wait for ada's secret behind her revocation, and return its answer."""
    body = {"adminsecret": group.admin_secret, "name": "ada"}
    async with writing_as_ada(settings):
        revoking = asyncio.create_task(copy.post("/v22_1/group-revoke-user", json=body))
        await until_blocked(pool, 1)
        submitting = asyncio.create_task(submission)
        await until_blocked(pool, 2)
    assert (await revoking).status_code == 200
    return await submitting


@pytest.fixture(params=["read committed", "repeatable read"])
async def isolation(pool: Pool, request: pytest.FixtureRequest) -> None:
    """The server's default isolation level of a transaction."""
    database = await pool.fetchval("SELECT current_database()")
    await pool.execute(
        f"ALTER DATABASE {database} SET default_transaction_isolation = '{request.param}'"
    )


@pytest.mark.usefixtures("isolation")  # it is set before the copies connect
@pytest.mark.parametrize("in_bulk", [False, True])
async def test_a_request_that_waits_while_its_secret_is_revoked_is_refused(
    copies: list[httpx.AsyncClient],
    group: GroupOfTest,
    settings: Settings,
    pool: Pool,
    in_bulk: bool,
) -> None:
    submission = submit(copies[1], group.user_secret, in_bulk=in_bulk)
    answer = await behind_a_revocation(submission, copies[0], group, settings, pool)
    assert answer == (403, UNKNOWN)
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 0


async def test_a_wait_for_one_secret_is_not_a_refusal_of_the_others(
    copies: list[httpx.AsyncClient], group: GroupOfTest, settings: Settings, pool: Pool
) -> None:
    known = job(group.user_secret)
    assert (await copies[0].post("/v22_1/task-submit", json=known)).status_code == 200
    jobs = [known, job(group.user_secret), job(group.admin_secret)]
    submission = copies[1].post("/v22_1/bulk/task-submit", json=jobs)
    answer = await behind_a_revocation(submission, copies[0], group, settings, pool)
    # The answer also says nothing about the bucket that has a job already.
    assert [entry["status"] for entry in answer.json()] == [403, 403, 200]


@pytest.mark.parametrize("in_bulk", [False, True])
async def test_a_request_that_waits_while_its_group_is_disabled_is_refused(
    copies: list[httpx.AsyncClient],
    group: GroupOfTest,
    settings: Settings,
    pool: Pool,
    in_bulk: bool,
) -> None:
    async with holding(
        settings,
        f"SELECT pg_advisory_xact_lock({SECRET_LOCKS}, hashtext(key_id)) FROM users",  # noqa: S608
    ):
        submitting = asyncio.create_task(submit(copies[0], group.user_secret, in_bulk=in_bulk))
        await until_blocked(pool, 1)
        await pool.execute("UPDATE groups SET disabled_at = now()")
    status, sentence = await submitting
    assert status == 403
    assert sentence.startswith("The group was disabled")
    assert await pool.fetchval("SELECT count(*) FROM jobs") == 0


async def test_a_disabled_group_accepts_no_more_jobs(
    copies: list[httpx.AsyncClient], group: GroupOfTest, pool: Pool
) -> None:
    async def disable() -> int:
        async with pool.acquire() as connection:
            while not await connection.fetchval("SELECT count(*) FROM jobs"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert await disable_group(connection, "chemists")
            jobs: int = await connection.fetchval("SELECT count(*) FROM jobs")
            return jobs

    *accepted, jobs = await asyncio.gather(
        submit_until_refused(copies[0], group.user_secret, in_bulk=True),
        submit_until_refused(copies[1], group.admin_secret, in_bulk=False),
        disable(),
    )
    assert jobs == sum(len(each) for each in accepted) > 0


async def test_disabling_a_group_waits_for_writes_in_progress(
    settings: Settings, group: GroupOfTest, pool: Pool
) -> None:
    assert group

    async def disable() -> None:
        async with pool.acquire() as connection:
            await disable_group(connection, "chemists")

    async with writing_as_ada(settings):
        disabling = asyncio.create_task(disable())
        await until_blocked(pool, 1)
        # Other calls do not wait for it: the group is disabled already.
        assert await pool.fetchval("SELECT disabled_at FROM groups")
        assert not disabling.done()
    await disabling


async def test_a_flood_of_submissions_does_not_delay_a_revocation(
    copies: list[httpx.AsyncClient], group: GroupOfTest
) -> None:
    """With a row lock, overlapping shared locks would go first for ever."""
    begun = [asyncio.Event() for _ in range(16)]
    flood = [
        asyncio.create_task(
            submit_until_refused(
                copies[number % 2], group.user_secret, in_bulk=False, first_accepted=accepted
            )
        )
        for number, accepted in enumerate(begun)
    ]
    await asyncio.wait_for(asyncio.gather(*(accepted.wait() for accepted in begun)), 30)
    body = {"adminsecret": group.admin_secret, "name": "ada"}
    answer = await asyncio.wait_for(copies[0].post("/v22_1/group-revoke-user", json=body), 30)
    assert answer.status_code == 200
    assert all(await asyncio.wait_for(asyncio.gather(*flood), 30))


async def test_two_posts_with_the_secrets_of_two_groups_do_not_block_each_other(
    copies: list[httpx.AsyncClient], group: GroupOfTest, pool: Pool
) -> None:
    other = await make_group(pool, "physicists")
    secrets = [group.user_secret, other.user_secret]
    posts = [
        [job(secret) for secret in order] for order in (secrets, secrets[::-1]) for _ in range(10)
    ]
    answers = await asyncio.gather(
        *(
            copies[number % 2].post("/v22_1/bulk/task-submit", json=post)
            for number, post in enumerate(posts)
        )
    )
    assert {entry["status"] for answer in answers for entry in answer.json()} == {200}


async def test_a_post_with_the_secrets_of_both_does_not_deadlock_with_the_revocation(
    copies: list[httpx.AsyncClient], group: GroupOfTest, pool: Pool, settings: Settings
) -> None:
    """Both store the use of the admin's secret while one waits for the other's lock."""
    async with pool.acquire() as connection:
        # The admin with the greater secret revokes the other.
        admins = {
            await create_user(connection, group.id, group.token, name=name, is_admin=True): name
            for name in ("one", "two")
        }
    revoked, by = sorted(admins)
    async with holding(settings, f"SELECT FROM users WHERE name = '{admins[revoked]}' FOR UPDATE"):
        posting = asyncio.create_task(
            copies[0].post("/v22_1/bulk/task-submit", json=[job(revoked), job(by)])
        )
        await asyncio.sleep(0.3)
        revoking = asyncio.create_task(
            copies[1].post(
                "/v22_1/group-revoke-user", json={"adminsecret": by, "name": admins[revoked]}
            )
        )
        await asyncio.sleep(0.3)
    assert [entry["status"] for entry in (await posting).json()] == [200, 200]
    assert (await revoking).status_code == 200


@asynccontextmanager
async def writing_as_ada(settings: Settings) -> AsyncIterator[None]:
    """Hold a write with ada's secret open for the block."""
    writer = await asyncpg.connect(settings.database_url.get_secret_value())
    async with writer.transaction():
        await writer.execute(
            "SELECT pg_advisory_xact_lock_shared($1, hashtext(key_id)) FROM users"
            " WHERE name = 'ada'",
            SECRET_LOCKS,
        )
        yield
    await writer.close()
