"""`leruli batch-get`."""

from __future__ import annotations

import click

from leruli import settings
from leruli.commands._batch_argument import batch_argument
from leruli.commands._common import HERE, client_command
from leruli.commands._fetching import get_folders
from leruli.errors import NotFoundError
from leruli.jobs.batches import short_batch_id
from leruli.terminal.output import Output


@click.command("batch-get")
@click.option("--again", is_flag=True, help="Also jobs that were fetched before.")
@click.option("--all", "everything", is_flag=True, help="Fetch the archives of the input too.")
@click.option(
    "--overwrite", is_flag=True, help="Replace local files, also those that were changed."
)
@click.option(
    "--with-input", is_flag=True, help="Fetch the submitted input too, beside changed files."
)
@batch_argument
@client_command(
    interrupted="All files fetched so far are complete. Run `leruli batch-get` again for the rest."
)
def command(
    out: Output, again: bool, everything: bool, overwrite: bool, with_input: bool, batch: str | None
) -> int:
    """Fetch the results of a batch, each job's into the folder that it was submitted from.

    BATCH is the id of a batch, four or more of its first digits, or its name. Without it, it is
    the batch that was submitted last in the current folder, or in the nearest folder above it.

    Run it in any folder of the tree: in the folder that has the batch's journal (leruli.batch-...),
    in one below it, or at most two above. It skips jobs that are not over, and jobs that were
    fetched before.
    """
    settings.require(settings.ALL)
    service_settings = settings.service_settings()

    from leruli.folder.journal import Journal
    from leruli.folder.journals import find_journal
    from leruli.jobs.batches import resolve_batch
    from leruli.jobs.fetch import Wanted
    from leruli.service.batches import BatchClient

    with BatchClient(service_settings, out.note) as service:
        batchid = resolve_batch(service, batch, HERE)
    view = find_journal(batchid, HERE)
    if view is None:
        raise NotFoundError(
            f"There is no journal of batch {short_batch_id(batchid)} (leruli.batch-...) in this "
            "folder, in those above it, or in two levels below. The journal says which folders "
            "the batch has: go to the tree that it was submitted from."
        )
    wanted = Wanted(everything, again, overwrite, with_input)
    return get_folders(out, Journal.opened_at(view.path), view.folders_of(batchid), wanted)
