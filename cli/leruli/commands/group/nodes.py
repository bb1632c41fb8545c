"""`leruli group nodes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from leruli.commands._common import client_command
from leruli.commands._listing import wide_option
from leruli.commands.group._secrets import reader
from leruli.terminal.brief import BriefColumn, Cut, state_column
from leruli.terminal.output import Output
from leruli.terminal.tables import Column
from leruli.times import age

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

_BRIEF = (
    BriefColumn("name", lambda node: node.get("name"), at_most=20, cut=Cut.MIDDLE),
    state_column("standing"),
    BriefColumn("jobs", lambda node: node.get("jobs"), is_number=True),
    BriefColumn("cores", lambda node: _share(node, "coresfree", "cores", 1), is_number=True),
    BriefColumn("GB", lambda node: _share(node, "memoryfreemb", "memorymb", 1000), is_number=True),
    BriefColumn("seen", lambda node: age(node.get("lastseenat")), is_number=True),
    BriefColumn("why no jobs", lambda node: node.get("reason"), at_most=None, cut=Cut.END),
)


def _share(node: Mapping[str, Any], free: str, whole: str, unit: int) -> str:
    """Return the free amount and the total, such as 3/16."""
    figures = [node.get(free), node.get(whole)]
    return "/".join("?" if one is None else f"{one // unit}" for one in figures)


@click.command("nodes")
@wide_option
@client_command(interrupted="Nothing was changed.")
def command(out: Output, wide: bool) -> None:
    """List the machines of your group: how large, how busy, and why one gets no jobs.

    A machine that failed several jobs in a row gets one job at a time until one succeeds there, or
    until `leruli group resume-node`. If a machine does not enforce a limit (memory, CPU,
    processes), a job can exceed that limit there.

    For cores and memory a terminal shows the free amount and the total, such as 3/16.

    --json also has the images on each machine, and whether it needs the new compute secret.
    """
    with reader(out) as group:
        nodes = group.nodes()
    out.table("nodes", _COLUMNS, nodes, brief=None if wide else _BRIEF)
