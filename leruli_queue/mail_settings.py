"""The settings of mail: a part of :class:`leruli_queue.settings.Settings`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

from leruli_queue.hosts import is_loopback

MOST_OF_ADDRESS, _MOST_OF_LOCAL = 254, 64
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# What every mail server takes: no quotes, comments or addresses of machines.
_ADDRESS = re.compile(
    rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*"
    rf"@{_LABEL}(?:\.{_LABEL})*"
)


def is_mail_address(text: str) -> bool:
    """Return whether a text is one plain address of mail, such as ada@example.org."""
    local = text.partition("@")[0]
    return (
        len(text) <= MOST_OF_ADDRESS
        and len(local) <= _MOST_OF_LOCAL
        and _ADDRESS.fullmatch(text) is not None
    )


class MailSettings(BaseSettings):
    """How mail is sent. ``serve`` reads them to say whether it is, ``dispatch`` sends it."""

    smtp_host: str | None = Field(
        None,
        min_length=1,
        pattern=r"^[^\s/@]+$",
        description="Mail server (SMTP) that takes mail about batches. Without it `--mail` is "
        "refused.",
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the mail server.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="`starttls`: the connection must change to TLS (port 587). `tls`: it begins "
        "with TLS (port 465). `none`: mail crosses the network readable; not with a password, "
        "unless the server is this machine.",
    )
    smtp_ca_file: Path | None = Field(
        None,
        description="Certificate of the authority that signed the mail server's. Without it one "
        "of the system's authorities must have.",
    )
    smtp_user: str | None = Field(None, description="Name to log in to the mail server with.")
    smtp_password: SecretStr | None = Field(
        None, validate_default=True, description="Password of this name. A secret."
    )
    smtp_from: str | None = Field(
        None,
        validate_default=True,
        description="Address that mail comes from. Required with LERULI_QUEUE_SMTP_HOST.",
    )
    smtp_timeout_s: float = Field(
        30.0, gt=0, le=60, description="Timeout in seconds of each step of sending a mail."
    )
    smtp_domains: Annotated[list[str], NoDecode] = Field(
        [],
        description="Domains that mail may go to, such as `example.org`, separated by commas. "
        "Without it any.",
    )
    smtp_user_daily: int = Field(
        100,
        ge=1,
        description="Most mails and awaited batches with mail of one user within a day; then "
        "`--mail` is refused.",
    )

    @field_validator("smtp_password")
    @classmethod
    def _with_a_user_and_not_in_the_clear(
        cls, value: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        if (value is None) != (info.data.get("smtp_user") is None):
            raise ValueError("set LERULI_QUEUE_SMTP_USER and this one, or neither")
        tls, host = info.data.get("smtp_tls"), info.data.get("smtp_host")
        if value is not None and tls == "none" and not is_loopback(host or ""):
            raise ValueError(
                "with LERULI_QUEUE_SMTP_TLS=none the password would cross the network readable; "
                "choose starttls or tls"
            )
        return value

    @field_validator("smtp_from")
    @classmethod
    def _an_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("smtp_host") is not None:
            raise ValueError("with LERULI_QUEUE_SMTP_HOST it has to be set")
        if value is not None and not is_mail_address(value):
            raise ValueError("it has to be one address, such as queue@example.org")
        return value

    @field_validator("smtp_domains", mode="before")
    @classmethod
    def _domains(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [part.strip() for part in value.split(",") if part.strip()]
