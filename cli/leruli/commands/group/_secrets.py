"""Where the secrets of `leruli group` come from, and asking before what cannot be undone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.errors import RefusedError, SettingsError
from leruli.output import Output
from leruli.redaction import remember
from leruli.settings import ServiceSettings

if TYPE_CHECKING:
    from leruli.group import GroupReader


def admin_settings() -> ServiceSettings:
    """Return how to talk to the service as an admin; asks for the secret if it is not set.

    It is never an argument: arguments are in the shell's history and in everybody's `ps`.
    """
    secret = settings.admin_secret()
    if secret is None:
        if not _is_answered():
            raise SettingsError(
                "LERULI_ADMIN_SECRET is not set, and there is no terminal to ask on. Set it to "
                "the API secret of an admin of your group."
            )
        secret = click.prompt("API secret of an admin", hide_input=True, err=True).strip()
        remember(secret)
    return settings.admin_settings(secret)


def reader(out: Output) -> GroupReader:
    """Return the group as its token shows it; the token is fetched if it is not set."""
    from leruli.api import Service
    from leruli.group import GroupReader

    found = settings.group_settings()
    if found is None:
        with Service(settings.service_settings(), out.note) as service:
            token = service.group_token()
        remember(token)
        found = settings.reader_settings(token)
    return GroupReader(found, out.note)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; `yes` says that it was asked before.

    Raises RefusedError when the answer is no, click.UsageError when nobody is there to answer.
    """
    if yes:
        return
    if not _is_answered():
        raise click.UsageError("There is no terminal to ask on whether this is meant: add --yes.")
    if not click.confirm(question, err=True):
        raise RefusedError("Nothing was done.")


def _is_answered() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
