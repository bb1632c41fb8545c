"""Mails are sent to a real SMTP server: TLS, logins, refusals, crashes, retries, leases."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from mail_world import (
    CUT,
    PASSWORD,
    READER,
    SENDER,
    USER,
    MailServer,
    ask_for_mail,
    check_login,
    mail_server,
    with_mail,
)
from process_world import running
from pydantic import SecretStr
from service_world import GroupOfTest, PostgresOfTest, make_jobs, running_service

from leruli_queue.embedded.folders import Folders
from leruli_queue.errors import SetupError
from leruli_queue.jobs.intake import NewBatch
from leruli_queue.mail.outbox import Outbox
from leruli_queue.mail.smtp import Server
from leruli_queue.settings import Settings
from leruli_queue.store.migrate import migrate_when_possible
from leruli_queue.store.pool import Pool, open_pool
from leruli_queue.store.queries import queries

LOGIN = {"smtp_user": USER, "smtp_password": SecretStr(PASSWORD)}


async def write(pool: Pool, *, subject: str = "scan: over", body: str = "All.\n") -> UUID:
    mail_id = uuid4()
    await queries.write_mail(
        pool,
        id=mail_id,
        user_id=1,
        batch_id=uuid4(),
        address=READER,
        subject=subject,
        body=body,
    )
    return mail_id


def outbox(settings: Settings, pool: Pool) -> Outbox:
    server = Server.of(settings)
    assert server is not None
    return Outbox(server, pool)


async def row_of(pool: Pool, mail_id: UUID) -> dict[str, object]:
    row = await pool.fetchrow(
        "SELECT *, extract(epoch FROM due_at - now())::float AS due_s FROM mails WHERE id = $1",
        mail_id,
    )
    return dict(row or {})


async def make_due(pool: Pool) -> None:
    """Let time pass until every mail is due that was not sent or given up."""
    await pool.execute("UPDATE mails SET due_at = now() WHERE due_at IS NOT NULL")


async def until_all_noted(pool: Pool) -> None:
    """Wait until the dispatchers have noted that every mail was accepted."""
    while await pool.fetchval(  # noqa: ASYNC110 - other processes
        "SELECT count(*) FROM mails WHERE sent_at IS NULL"
    ):
        await asyncio.sleep(0.02)


def tls_of(folders: Folders, tls: str) -> dict[str, object]:
    return {"smtp_tls": tls, **({} if tls == "none" else {"smtp_ca_file": folders.tls.ca})}


@pytest.mark.parametrize("tls", ["none", "starttls", "tls"])
@pytest.mark.parametrize("login", [False, True])
async def test_a_mail_is_sent_once(
    settings: Settings, pool: Pool, folders: Folders, tls: str, login: bool
) -> None:
    with mail_server(folders, tls=tls, login=login) as server:
        more = tls_of(folders, tls) | (LOGIN if login else {})
        sending = outbox(with_mail(settings, server, **more), pool)
        body = ".\n..\nSchrödinger 水\n" + "x" * 2000 + "\n"
        mail_id = await write(pool, body=body)
        assert await sending.send_one()
        assert not await sending.send_one()
        [mail] = server.mails
        assert server.sessions == [(tls != "none", USER.encode() if login else None)]
    assert mail["From"] == f"Leruli Queue <{SENDER}>"
    assert mail["To"] == READER
    assert mail["Subject"] == "scan: over"
    assert mail["Message-ID"] == f"<{mail_id}@lab.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == body
    [envelope] = server.accepted
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, [READER])
    row = await row_of(pool, mail_id)
    assert row["sent_at"] is not None
    assert (row["due_at"], row["tries"], row["error"]) == (None, 1, None)


@pytest.mark.parametrize(
    ("offered", "changes", "words"),
    [
        ("starttls", {"smtp_ca_file": None}, "certificate verify failed"),
        ("tls", {"smtp_ca_file": None}, "certificate verify failed"),
        # Somebody in between took the offer out.
        ("none", {"smtp_tls": "starttls"}, "STARTTLS"),
    ],
)
async def test_a_server_that_cannot_be_trusted_gets_nothing(
    settings: Settings,
    pool: Pool,
    folders: Folders,
    offered: str,
    changes: dict[str, object],
    words: str,
) -> None:
    with mail_server(folders, tls=offered) as server:
        ours = with_mail(settings, server, **(tls_of(folders, offered) | LOGIN | changes))
        mail_id = await write(pool)
        assert not await outbox(ours, pool).send_one()
        assert server.arrived == 0
    row = await row_of(pool, mail_id)
    assert words in str(row["error"])
    assert row["due_at"] is not None


def repeats_the_password(*arguments: object) -> object:
    """The answer of a server that says to everybody what it was told."""
    result = check_login(*arguments)  # type: ignore[arg-type]
    data = arguments[-1]
    told = f"{data.login!r} {data.password!r}"  # type: ignore[attr-defined]
    encoded = base64.b64encode(told.encode()).decode()
    result.message = f"535 5.7.8 {told} {encoded}"
    result.handled = False
    return result


async def test_a_refused_login_is_tried_again_and_no_error_has_the_password(
    settings: Settings, pool: Pool, folders: Folders, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = SecretStr("not-the-right-password")
    with mail_server(
        folders, tls="starttls", login=True, authenticator=repeats_the_password
    ) as server:
        ours = with_mail(settings, server, **tls_of(folders, "starttls"), **LOGIN).model_copy(
            update={"smtp_password": wrong}
        )
        mail_id = await write(pool)
        async with running("dispatch", ours) as dispatcher:
            await dispatcher.until_said("is tried again")
    said = "".join(dispatcher.said)
    row = await row_of(pool, mail_id)
    assert "refuses the login (code 535)" in str(row["error"])
    assert row["due_at"] is not None
    for text in (said, str(row), repr(ours), repr(Server.of(ours))):
        assert "not-the-right" not in text
        assert base64.b64encode(b"not-the-right").decode()[:12] not in text
    assert wrong.get_secret_value() in ours.secret_values()
    # Personal, and not for logs.
    assert READER not in said


@pytest.mark.parametrize(
    ("refuse", "words", "is_final"),
    [
        (lambda server: setattr(server, "address_answer", "550 no such user"), "550 no", True),
        (lambda server: setattr(server, "address_answer", "450 later"), "450 later", False),
        (lambda server: server.answers.append("554 spam"), "554 spam", True),
        (lambda server: server.answers.append("451 disk full"), "451 disk full", False),
        (lambda server: server.answers.append(f"554 to {READER}\u202e"), "[address]", True),
    ],
)
async def test_a_refusal_is_final_or_not_by_its_code(
    settings: Settings,
    pool: Pool,
    folders: Folders,
    refuse: Callable[[MailServer], None],
    words: str,
    is_final: bool,
) -> None:
    with mail_server(folders) as server:
        refuse(server)
        sending = outbox(with_mail(settings, server), pool)
        mail_id = await write(pool)
        assert not await sending.send_one()
        row = await row_of(pool, mail_id)
        assert words in str(row["error"])
        assert READER not in str(row["error"])
        assert (row["due_at"] is None) == is_final
        assert row["sent_at"] is None
        server.address_answer = "250 OK"
        await make_due(pool)
        assert await sending.send_one() != is_final
        assert len(server.accepted) == (0 if is_final else 1)


async def test_pauses_double_up_to_an_hour_and_end_after_two_days(
    settings: Settings, pool: Pool
) -> None:
    # Nothing listens there.
    sending = outbox(with_mail(settings), pool)
    mail_id = await write(pool)
    pauses = []
    for _ in range(8):
        assert not await sending.send_one()
        pauses.append(round(float(str((await row_of(pool, mail_id))["due_s"])) / 60))
        await make_due(pool)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    await pool.execute("UPDATE mails SET written_at = now() - interval '49 hours'")
    assert not await sending.send_one()
    row = await row_of(pool, mail_id)
    assert (row["due_at"], row["sent_at"]) == (None, None)
    assert "SMTPConnectError" in str(row["error"])


async def test_a_server_that_dies_after_it_accepted_gets_the_same_mail_again(
    settings: Settings, pool: Pool, folders: Folders
) -> None:
    """The window that remains: nobody can tell, so it is sent again and can be recognised."""
    with mail_server(folders) as server:
        server.answers.append(CUT)
        sending = outbox(with_mail(settings, server), pool)
        mail_id = await write(pool)
        assert not await sending.send_one()
        assert (await row_of(pool, mail_id))["sent_at"] is None
        await make_due(pool)
        assert await sending.send_one()
        first, second = server.accepted
    assert first.original_content == second.original_content
    assert f"<{mail_id}@lab.example>".encode() in first.original_content


async def test_two_dispatchers_share_the_mails(
    settings: Settings, pool: Pool, folders: Folders
) -> None:
    with mail_server(folders) as server:
        ours = with_mail(settings, server)
        ids = {await write(pool) for _ in range(20)}
        async with running("dispatch", ours), running("dispatch", ours):
            await server.until_accepted(20)
            await until_all_noted(pool)
        sent = [str(mail["Message-ID"]) for mail in server.mails]
    assert sorted(sent) == sorted(f"<{one}@lab.example>" for one in ids)


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_killed_dispatcher_loses_no_mail(
    settings: Settings, pool: Pool, folders: Folders, accepted: bool
) -> None:
    """SIGKILL while the server has the mail: the server accepted it already, or never does."""
    with mail_server(folders) as server:
        server.may_answer.clear()
        if not accepted:
            server.answers.append("451 later")
        ours = with_mail(settings, server)
        mail_id = await write(pool)
        async with asyncio.timeout(60), running("dispatch", ours) as first:
            while not server.arrived:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            first.process.kill()
            await first.process.wait()
        server.may_answer.set()
        row = await row_of(pool, mail_id)
        assert row["sent_at"] is None
        # Nobody else takes it before the lease is over.
        assert 200 < float(str(row["due_s"])) <= 300
        assert not await outbox(ours, pool).send_one()
        await make_due(pool)
        async with asyncio.timeout(60), running("dispatch", ours) as second:
            await second.until_said("mail sent")
        assert len({mail["Message-ID"] for mail in server.mails}) == 1
        assert len(server.accepted) == 1 + accepted
    assert (await row_of(pool, mail_id))["tries"] == 2


async def test_the_note_that_a_mail_was_accepted_waits_for_the_database(
    settings: Settings, own_postgres: PostgresOfTest, folders: Folders
) -> None:
    own = settings.model_copy(update={"database_url": SecretStr(own_postgres.url)})
    with mail_server(folders) as server:
        async with asyncio.timeout(90), open_pool(own) as pool:
            await migrate_when_possible(pool)
            mail_id = await write(pool)
            server.may_answer.clear()
            sending = asyncio.create_task(outbox(with_mail(own, server), pool).send_one())
            while not server.arrived:  # noqa: ASYNC110 - another thread
                await asyncio.sleep(0.02)
            own_postgres.part.stop()
            server.may_answer.set()
            await server.until_accepted(1)
            await asyncio.to_thread(own_postgres.start)
            assert await sending
            assert (await row_of(pool, mail_id))["sent_at"] is not None
        assert len(server.accepted) == 1


async def test_a_dispatcher_whose_try_outlived_its_lease_changes_nothing(
    settings: Settings, pool: Pool, folders: Folders
) -> None:
    with mail_server(folders) as server:
        server.may_answer.clear()
        server.answers.append("554 no")
        sending = outbox(with_mail(settings, server), pool)
        mail_id = await write(pool)
        slow = asyncio.create_task(sending.send_one())
        while not server.arrived:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.02)
        # Another one claims the mail.
        await make_due(pool)
        claimed = await queries.claim_mail(pool, lease_s=300.0)
        assert claimed["tries"] == 2
        server.may_answer.set()
        assert not await slow
    row = await row_of(pool, mail_id)
    assert (row["error"], row["tries"]) == (None, 2)
    assert row["due_at"] is not None


async def test_a_dispatcher_with_a_wrong_certificate_file_says_so(
    settings: Settings, tmp_path: Path
) -> None:
    for name, text in (("absent", None), ("empty", "")):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        ours = with_mail(settings, smtp_tls="tls", smtp_ca_file=path)
        with pytest.raises(SetupError, match="LERULI_QUEUE_SMTP_CA_FILE names"):
            Server.of(ours)


async def test_a_dispatcher_tells_of_the_first_failure_and_of_the_end(
    nomad_settings: Settings, pool: Pool, group: GroupOfTest, folders: Folders
) -> None:
    """The whole way: asked for at the service, found in the counts, written, sent."""
    batch = uuid4()
    change = "UPDATE jobs SET state = $1, ended_at = now() WHERE id = $2"
    with mail_server(folders, tls="starttls", login=True) as server:
        ours = with_mail(nomad_settings, server, **tls_of(folders, "starttls"), **LOGIN)
        async with (
            asyncio.timeout(90),
            running_service(ours) as service,
            running("dispatch", ours),
        ):
            jobs = await make_jobs(pool, group, 3, batch=NewBatch(batch, "scan"))
            assert (await ask_for_mail(service, group, batch)).status_code == 200
            await pool.execute(change, "failed", jobs[0])
            await server.until_accepted(1)
            for job in jobs[1:]:
                await pool.execute(change, "completed", job)
            await server.until_accepted(2)
            await until_all_noted(pool)
    subjects = [str(mail["Subject"]) for mail in server.mails]
    assert subjects == [
        "[leruli] scan: a job failed",
        "[leruli] scan: over: 2 completed, 1 failed",
    ]
