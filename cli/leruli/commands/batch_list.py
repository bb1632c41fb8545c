"""`leruli batch-list`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._common import client_command
from leruli.commands._listing import print_pages, wide_option
from leruli.terminal.batch_report import BRIEF, COLUMNS, flat
from leruli.terminal.output import Output


@click.command("batch-list")
@wide_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Batches to print at most, the newest ones.",
)
@click.option("--all", "everything", is_flag=True, help="Print all batches.")
@click.option("--after", help="Continue after this batch.")
@client_command(interrupted="Nothing was changed.")
def command(out: Output, wide: bool, limit: int, everything: bool, after: str | None) -> None:
    """List your own batches, the newest first, with the number of jobs in each state.

    A terminal shows the first digits of the batch id. Other commands accept them as the id.
    """
    service_settings = settings.service_settings()

    from leruli.service.batches import BatchClient

    with BatchClient(service_settings, out.note) as service:
        pages = (
            page._replace(entries=page.entries if out.as_json else list(map(flat, page.entries)))
            for page in service.batches(None if everything else limit, after)
        )
        print_pages(out, "batches", COLUMNS, pages, None if wide else BRIEF)
