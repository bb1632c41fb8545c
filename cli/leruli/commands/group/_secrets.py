"""The secrets of `leruli group`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from leruli import settings
from leruli.commands._common import is_answered
from leruli.errors import SettingsError
from leruli.redaction import remember
from leruli.settings import ServiceSettings
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.service.group import GroupReader


def admin_settings() -> ServiceSettings:
    """Return the settings of an admin; ask for the secret if it is not set.

    The secret is never an argument: the shell's history and `ps` show arguments.
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
    """Return a reader of the group. Its token is fetched from the service unless it is set."""
    from leruli.service.group import open_reader

    return open_reader(out.note)
