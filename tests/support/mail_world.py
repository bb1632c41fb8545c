"""A real SMTP server, and requests for mail, for tests."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from service_world import GroupOfTest

from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.ports import free_ports
from leruli_queue.settings import Settings

SENDER = "queue@lab.example"
READER = "ada@example.org"
USER, PASSWORD = "queue", "correct-horse-battery"
OK = "250 Message accepted for delivery"
CUT = "cut"


@dataclass
class MailServer:
    """A real SMTP server (aiosmtpd) in a thread. It keeps the mails that it accepted."""

    port: int
    #: What it accepted, in order.
    accepted: list[Envelope] = field(default_factory=list)
    #: Answers to the next mails, then OK. CUT is a FAKE of a server that dies after it accepted: it
    #: keeps the mail and closes the connection without an answer.
    answers: list[str] = field(default_factory=list)
    #: Answer to each address.
    address_answer: str = "250 OK"
    #: While it is not set, the server has accepted or refused a mail and does not say so.
    may_answer: threading.Event = field(default_factory=threading.Event)
    #: How many mails arrived whole, accepted or not.
    arrived: int = 0
    #: How it was spoken to: whether by TLS, and as whom.
    sessions: list[tuple[bool, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_answer.set()

    @property
    def mails(self) -> list[EmailMessage]:
        """The accepted mails, parsed."""
        return [parsed(envelope) for envelope in self.accepted]

    async def until_accepted(self, count: int) -> None:
        while len(self.accepted) < count:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.02)

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self,
        server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if self.address_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.address_answer

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.arrived += 1
        is_tls = server.transport.get_extra_info("ssl_object") is not None
        self.sessions.append((is_tls, session.auth_data))
        answer = self.answers.pop(0) if self.answers else OK
        if answer in (OK, CUT):
            self.accepted.append(envelope)
        while not self.may_answer.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.02)
        if answer == CUT:
            server.transport.abort()
        return answer


def parsed(envelope: Envelope) -> EmailMessage:
    mail = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


def check_login(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
) -> AuthResult:
    assert isinstance(data, LoginPassword)
    right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    # Not handled: aiosmtpd answers a wrong password.
    return AuthResult(success=right, handled=False, auth_data=data.login if right else None)


@contextmanager
def mail_server(
    folders: Folders,
    *,
    tls: str = "none",
    login: bool = False,
    authenticator: Callable[..., AuthResult] = check_login,
) -> Iterator[MailServer]:
    """Run a mail server; ``tls`` as LERULI_QUEUE_SMTP_TLS has it."""
    [port] = free_ports(1)
    server = MailServer(port)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folders.tls.server, folders.tls.server_key)
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": port}
    if tls == "tls":
        options["ssl_context"] = context
    if tls == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if login:
        options |= {"authenticator": authenticator, "auth_required": True}
        options["auth_require_tls"] = tls == "starttls"
    controller = Controller(server, **options)
    controller.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        controller.stop()


def with_mail(settings: Settings, server: MailServer | None = None, **changes: Any) -> Settings:
    """Return the settings of a service that sends mail through a server."""
    port = 1 if server is None else server.port
    mail = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": "none", "smtp_from": SENDER}
    return Settings(**(settings.model_dump(exclude_unset=True) | mail | changes))


async def ask_for_mail(
    service: httpx.AsyncClient,
    group: GroupOfTest,
    batch: UUID,
    *,
    complete: bool = True,
    address: str = READER,
) -> httpx.Response:
    body = {"secret": group.user_secret, "batchid": str(batch)}
    return await service.post(
        "/v22_1/batch-mail", json=body | {"address": address, "complete": complete}
    )
