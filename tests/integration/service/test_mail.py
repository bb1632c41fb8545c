"""Mail about batches: who may ask for it, and when it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from mail_world import READER, ask_for_mail, with_mail
from service_world import GroupOfTest, make_jobs, running_service

from leruli_queue.jobs.batches import fold_batch_changes
from leruli_queue.jobs.intake import NewBatch
from leruli_queue.mail import due
from leruli_queue.mail.due import delete_old_mails, write_due_mails
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@pytest.fixture
async def mailing(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A service that takes requests for mail."""
    async with running_service(with_mail(settings)) as client:
        yield client


async def ask(service: httpx.AsyncClient, group: GroupOfTest, batch: UUID, **more: Any) -> None:
    answer = await ask_for_mail(service, group, batch, **more)
    assert answer.status_code == 200, answer.text


async def end(pool: Pool, jobs: list[UUID], state: str = "completed", reason: str = "") -> None:
    await pool.execute(
        "UPDATE jobs SET state = $2::text::job_state, reason = $3, ended_at = $4"
        " WHERE id = ANY($1::uuid[])",
        *(jobs, state, reason, datetime.now(UTC)),
    )


async def subjects(pool: Pool) -> list[str]:
    """The subjects of all mails, after two rounds of the dispatcher."""
    for _ in range(2):
        await fold_batch_changes(pool)
        await write_due_mails(pool)
    found = await pool.fetch("SELECT subject FROM mails ORDER BY written_at")
    return [row["subject"] for row in found]


FAILED = "[leruli] scan: a job failed"


async def test_a_batch_has_a_mail_at_its_first_failure_and_one_at_its_end(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    await ask(mailing, group, batch, complete=False)
    assert await subjects(pool) == []
    jobs = await make_jobs(pool, group, 5, batch=NewBatch(batch, "scan"), name="water")
    await end(pool, jobs[:1])
    # Not yet the end: the submission goes on.
    assert await subjects(pool) == []
    await ask(mailing, group, batch)
    await end(pool, jobs[1:2], "failed", "its command ended with exit code 3")
    assert await subjects(pool) == [FAILED]
    await end(pool, jobs[2:3], "failed")
    assert await subjects(pool) == [FAILED]
    await end(pool, jobs[3:], "cancelled")
    over = "[leruli] scan: over: 1 completed, 2 failed, 2 cancelled"
    assert await subjects(pool) == [FAILED, over]
    [failure, at_end] = await pool.fetch("SELECT * FROM mails ORDER BY written_at")
    assert {failure["address"], at_end["address"]} == {READER}
    assert "2 jobs" not in failure["body"]
    assert f"- water ({jobs[1]}): its command ended with exit code 3" in failure["body"]
    assert "3 jobs of it are not over yet." in failure["body"]
    assert "ada (group chemists)" in at_end["body"]
    assert f"leruli batch-status {batch}" in at_end["body"]
    # The address is needed no more.
    assert await pool.fetchval("SELECT address FROM batch_mails") is None


async def test_a_batch_whose_only_news_is_its_end_has_one_mail(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    [job] = await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan"))
    await ask(mailing, group, batch)
    await end(pool, [job], "failed")
    assert await subjects(pool) == ["[leruli] scan: over: 1 failed"]


async def test_a_failure_while_the_submission_goes_on_is_no_end(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    await ask(mailing, group, batch, complete=False)
    await end(pool, await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan")), "failed")
    assert await subjects(pool) == [FAILED]
    body = await pool.fetchval("SELECT body FROM mails")
    assert "All jobs of it so far are over, and its submission goes on." in body
    await ask(mailing, group, batch)
    assert await subjects(pool) == [FAILED, "[leruli] scan: over: 1 failed"]


async def test_a_repeated_submission_has_a_mail_only_about_new_jobs(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    first = await make_jobs(pool, group, 2, batch=NewBatch(batch, "scan"))
    await ask(mailing, group, batch)
    await end(pool, first, "failed")
    over = ["[leruli] scan: over: 2 failed"]
    assert await subjects(pool) == over
    # The same command again: it finds every folder submitted.
    await ask(mailing, group, batch, complete=False)
    await ask(mailing, group, batch)
    assert await subjects(pool) == over
    assert await pool.fetchval("SELECT address FROM batch_mails") is None
    # With two more folders.
    await ask(mailing, group, batch, complete=False)
    more = await make_jobs(pool, group, 2, batch=NewBatch(batch, "scan"))
    await ask(mailing, group, batch)
    # The failures of before are no news.
    assert await subjects(pool) == over
    await end(pool, more[:1], "failed")
    assert await subjects(pool) == [*over, FAILED]
    await end(pool, more[1:])
    told = [*over, FAILED, "[leruli] scan: over: 1 completed, 3 failed"]
    assert await subjects(pool) == told
    # Each round tells of its own first failure.
    await ask(mailing, group, batch, complete=False)
    last = await make_jobs(pool, group, 2, batch=NewBatch(batch, "scan"))
    await end(pool, last[:1], "failed")
    assert await subjects(pool) == [*told, FAILED]


async def test_an_interrupted_submission_ends_when_no_job_joined_for_an_hour(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    await ask(mailing, group, batch, complete=False)
    jobs = await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan"))
    await end(pool, jobs)
    assert await subjects(pool) == []
    await pool.execute("UPDATE batch_mails SET asked_at = now() - interval '59 minutes'")
    await pool.execute("UPDATE batches SET last_submitted_at = now() - interval '59 minutes'")
    assert await subjects(pool) == []
    await pool.execute("UPDATE batches SET last_submitted_at = now() - interval '61 minutes'")
    assert await subjects(pool) == []
    await pool.execute("UPDATE batch_mails SET asked_at = now() - interval '61 minutes'")
    assert await subjects(pool) == ["[leruli] scan: over: 1 completed"]


async def test_dispatchers_that_look_at_once_write_a_mail_once(
    mailing: httpx.AsyncClient,
    pool: Pool,
    group: GroupOfTest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "_AT_ONCE", 3)
    for _ in range(10):
        batch = uuid4()
        jobs = await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan"))
        await ask(mailing, group, batch)
        await end(pool, jobs)
    await fold_batch_changes(pool)
    await asyncio.gather(*(write_due_mails(pool) for _ in range(5)))
    assert len(await subjects(pool)) == 10


async def test_counts_that_are_not_added_up_yet_make_no_mail_too_early(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch = uuid4()
    jobs = await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan"))
    await ask(mailing, group, batch)
    await end(pool, jobs)
    await fold_batch_changes(pool)
    # The batch has ended, by the counts of its row alone.
    await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan"))
    await write_due_mails(pool)
    assert await pool.fetchval("SELECT count(*) FROM mails") == 0


async def test_nobody_gets_mail_about_anothers_batch_or_after_a_revocation(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    batch, own = uuid4(), uuid4()
    jobs = await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan"), secret=group.admin_secret)
    jobs += await make_jobs(pool, group, 1, batch=NewBatch(own, "own"))
    await ask(mailing, group, batch)
    await ask(mailing, group, own)
    await end(pool, jobs)
    await pool.execute("UPDATE users SET revoked_at = now() WHERE name = 'ada'")
    assert await subjects(pool) == []
    await pool.execute("UPDATE users SET revoked_at = NULL")
    assert await subjects(pool) == ["[leruli] own: over: 1 completed"]


async def test_a_service_without_a_mail_server_refuses(
    service: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    answer = await ask_for_mail(service, group, uuid4())
    assert answer.status_code == 409
    assert "This queue sends no mail" in answer.json()["detail"]
    assert "Submit without --mail" in answer.json()["detail"]
    assert await pool.fetchval("SELECT count(*) FROM batch_mails") == 0


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "not one, such as"),
        ("ada", "not one, such as"),
        ("ada@", "not one, such as"),
        ("Ada <ada@example.org>", "without a name, quotes or spaces"),
        ("ada@example.org,bob@example.org", "Give one address"),
        ("ada@example.org\r\nBcc: bob@example.org", "not one, such as"),
        ("ada@example.org\n", "not one, such as"),
        ("ada@example.org\x00", "not one, such as"),
        ('"ada lovelace"@example.org', "quotes"),
        ("ada@[127.0.0.1]", "not one, such as"),
        ("a" * 65 + "@example.org", "not one, such as"),
        ("ada@" + "a." * 130 + "org", "not one, such as"),
        ("ada@-example.org", "not one, such as"),
        ("ada..l@example.org", "not one, such as"),
        ("adä@example.org", "not ASCII"),
        ("ada@exämple.org", "not ASCII"),
        ("\u202eada@example.org", "not ASCII"),
    ],
)
async def test_a_wrong_address_is_refused_in_words(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest, address: str, words: str
) -> None:
    answer = await ask_for_mail(mailing, group, uuid4(), address=address)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert await pool.fetchval("SELECT count(*) FROM batch_mails") == 0


async def test_only_addresses_at_domains_of_the_operator_get_mail(
    settings: Settings, group: GroupOfTest
) -> None:
    ours = with_mail(settings, smtp_domains=["Example.org", "lab.example"])
    async with running_service(ours) as service:
        await ask(service, group, uuid4(), address="ada@EXAMPLE.org")
        for address in ("ada@evil.example", "ada@example.org.evil", "ada@sub.example.org"):
            answer = await ask_for_mail(service, group, uuid4(), address=address)
            assert answer.status_code == 422
            assert "addresses at example.org, lab.example only" in answer.json()["detail"]


async def test_a_user_gets_so_many_mails_a_day(
    settings: Settings, pool: Pool, group: GroupOfTest
) -> None:
    async with running_service(with_mail(settings, smtp_user_daily=3)) as service:
        batches = [uuid4() for _ in range(3)]
        for batch in batches:
            await ask(service, group, batch)
        assert (await ask_for_mail(service, group, uuid4())).status_code == 409
        # What was asked for can be asked for again.
        await ask(service, group, batches[0])
        for batch in batches:
            await end(pool, await make_jobs(pool, group, 1, batch=NewBatch(batch, "scan")))
        assert len(await subjects(pool)) == 3
        answer = await ask_for_mail(service, group, uuid4())
        assert answer.status_code == 409
        assert "3 mails" in answer.json()["detail"]
        await pool.execute("UPDATE mails SET written_at = now() - interval '25 hours'")
        await ask(service, group, uuid4())


async def test_old_mails_and_requests_that_got_no_job_are_deleted(
    mailing: httpx.AsyncClient, pool: Pool, group: GroupOfTest
) -> None:
    used, unused = uuid4(), uuid4()
    jobs = await make_jobs(pool, group, 1, batch=NewBatch(used, "scan"))
    for batch in (used, unused):
        await ask(mailing, group, batch)
    await end(pool, jobs)
    assert len(await subjects(pool)) == 1
    await pool.execute("UPDATE mails SET written_at = now() - interval '31 days'")
    await pool.execute("UPDATE batch_mails SET asked_at = now() - interval '8 days'")
    await delete_old_mails(pool)
    # The mail has not been sent yet.
    assert await pool.fetchval("SELECT count(*) FROM mails") == 1
    assert await pool.fetchval("SELECT batch_id FROM batch_mails") == used
    await pool.execute("UPDATE mails SET due_at = NULL")
    await delete_old_mails(pool)
    assert await pool.fetchval("SELECT count(*) FROM mails") == 0
