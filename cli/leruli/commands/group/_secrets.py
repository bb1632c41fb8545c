"""Where the secrets of `leruli group` come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._common import is_answered
from leruli.errors import SettingsError
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
        if not is_answered():
            raise SettingsError(
                "LERULI_ADMIN_SECRET is not set, and there is no terminal to ask on. Set it to "
                "the API secret of an admin of your group."
            )
        secret = click.prompt("API secret of an admin", hide_input=True, err=True).strip()
        remember(secret)
    return settings.admin_settings(secret)


def reader(out: Output) -> GroupReader:
    """Return the group as its token shows it; the token is fetched if it is not set."""
    from leruli.group import open_reader

    return open_reader(out.note)
