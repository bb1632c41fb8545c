"""`leruli group nodes`."""

from __future__ import annotations

import click

from leruli.commands._common import verb
from leruli.commands.group._secrets import reader
from leruli.output import Output
from leruli.tables import Column

_COLUMNS = (
    Column("name", "name"),
    Column("standing", "standing"),
    Column("jobs", "jobs", is_number=True),
    Column("cores free", "coresfree", is_number=True),
    Column("of", "cores", is_number=True),
    Column("MB free", "memoryfreemb", is_number=True),
    Column("of", "memorymb", is_number=True),
    Column("disk MB free", "diskfreemb", is_number=True),
    Column("agent", "agentversion"),
    Column("Nomad", "nomadversion"),
    Column("last seen", "lastseenat", is_time=True),
    Column("why no jobs", "reason"),
    Column("tried again", "nextprobeat", is_time=True),
    Column("does not enforce", "unenforced"),
    Column("node", "nodeid"),
)


@click.command("nodes")
@verb(interrupted="Nothing was changed.")
def command(out: Output) -> None:
    """List the machines of your group: how large, how busy, and why one gets no jobs.

    A machine that failed several jobs in a row gets one job at a time until one succeeds there, or
    until `leruli group resume-node`. Of limits that a machine does not enforce (memory, CPU,
    processes) a job can take more than it asked for.

    With --json also the images on each and whether it needs the new compute secret.
    """
    with reader(out) as group:
        nodes = group.nodes()
    out.table("nodes", _COLUMNS, nodes)
