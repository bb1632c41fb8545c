"""One try to send a mail by SMTP, and what its failure means."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP

import aiosmtplib

from leruli_queue.errors import SetupError
from leruli_queue.mail.text import shown
from leruli_queue.mail_settings import MailSettings

# A server that says one word in each timeout ends here.
_MOST_S = 120.0
_FAREWELL_S = 2.0
_PERMANENT = range(500, 600)


class NotSentError(Exception):
    """A mail was not sent, or nobody knows whether it was.

    Parameters
    ----------
    message
        What happened, for the operator. Never holds a secret or the address.
    is_final
        Whether no later try can succeed: the server refused this mail or its address for good.
    """

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


@dataclass(frozen=True)
class Server:
    """The mail server of the settings."""

    host: str
    port: int
    tls: str
    user: str | None
    # Not in the text of this object.
    password: str | None = field(repr=False)
    sender: str
    timeout_s: float
    context: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def of(cls, settings: MailSettings) -> Server | None:
        """Return the server, or None if none is set.

        Raises
        ------
        SetupError
            When LERULI_QUEUE_SMTP_CA_FILE cannot be read, or is no certificate.
        """
        if settings.smtp_host is None or settings.smtp_from is None:
            return None
        context = None
        if settings.smtp_tls != "none":
            try:
                context = ssl.create_default_context(cafile=settings.smtp_ca_file)
            except OSError as error:
                raise SetupError(
                    f"LERULI_QUEUE_SMTP_CA_FILE names {settings.smtp_ca_file}, which cannot be "
                    f"read as a certificate: {error}."
                ) from None
        password = settings.smtp_password
        return cls(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_tls,
            settings.smtp_user,
            None if password is None else password.get_secret_value(),
            settings.smtp_from,
            settings.smtp_timeout_s,
            context,
        )


@asynccontextmanager
async def sending(server: Server, address: str, mail: EmailMessage) -> AsyncIterator[None]:
    """Send a mail to one address; the block begins when the server has accepted it.

    Raises
    ------
    NotSentError
        With the reason. If the connection broke after the text was sent, the server may have
        accepted the mail all the same.
    """
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.tls == "tls",
        # Not "if the server offers it": somebody in between could take the offer out.
        start_tls=server.tls == "starttls",
        tls_context=server.context,
        timeout=server.timeout_s,
    )
    try:
        await _deliver(client, server, address, mail)
        yield
        # After the block: the note that the mail was accepted does not wait for the farewell.
        with suppress(aiosmtplib.SMTPException, OSError):
            async with asyncio.timeout(_FAREWELL_S):
                await client.quit()
    finally:
        client.close()


async def _deliver(
    client: aiosmtplib.SMTP, server: Server, address: str, mail: EmailMessage
) -> None:
    try:
        async with asyncio.timeout(_MOST_S):
            await client.connect()
            await _log_in(client, server)
            await client.sendmail(server.sender, [address], mail.as_bytes(policy=SMTP))
    except aiosmtplib.SMTPRecipientsRefused as error:
        raise _refused("the address", error.recipients[0], address) from None
    except aiosmtplib.SMTPDataError as error:
        raise _refused("the mail", error, address) from None
    except aiosmtplib.SMTPResponseException as error:
        # The server or its set-up is at fault, not this mail.
        raise NotSentError(f"the server refuses: {_said(error, address)}") from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise NotSentError(f"{type(error).__name__}: {_clean(str(error), address)}") from None


async def _log_in(client: aiosmtplib.SMTP, server: Server) -> None:
    if server.user is None or server.password is None:
        return
    try:
        await client.login(server.user, server.password)
    except aiosmtplib.SMTPResponseException as error:
        # Without what the server says: it could repeat the password in any encoding.
        raise NotSentError(
            f"the server refuses the login (code {error.code}); check LERULI_QUEUE_SMTP_USER and "
            "LERULI_QUEUE_SMTP_PASSWORD"
        ) from None
    except aiosmtplib.SMTPException as error:
        raise NotSentError(f"the login failed: {type(error).__name__}") from None


def _refused(what: str, error: aiosmtplib.SMTPResponseException, address: str) -> NotSentError:
    return NotSentError(
        f"the server refuses {what}: {_said(error, address)}", is_final=error.code in _PERMANENT
    )


def _said(error: aiosmtplib.SMTPResponseException, address: str) -> str:
    return f"{error.code} {_clean(error.message, address)}"


def _clean(text: str, address: str) -> str:
    return shown(text.replace(address, "[address]"))
