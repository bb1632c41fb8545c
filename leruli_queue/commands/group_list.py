"""``leruli-queue group-list``."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from leruli_queue.commands._database import with_database
from leruli_queue.store.pool import Connection
from leruli_queue.store.queries import queries, rows


@click.command("group-list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> None:
    """List the groups with their users, nodes and jobs."""
    groups = with_database(_overview)
    if as_json:
        click.echo(json.dumps(groups, indent=2))
        return
    if not groups:
        click.echo("There is no group yet; `leruli-queue group-create NAME` makes one.")
        return
    table = Table("name", "state", "users", "nodes", "waiting", "in flight", "created")
    for group in groups:
        table.add_row(
            group["name"],
            _state(group),
            *(str(group[column]) for column in ("users", "nodes", "waiting", "in_flight")),
            group["created_at"][:10],
        )
    Console(soft_wrap=True).print(table)


async def _overview(connection: Connection) -> list[dict[str, Any]]:
    found = [dict(row) for row in await rows(queries.group_overview(connection))]
    for group in found:
        for column in ("created_at", "disabled_at"):
            group[column] = group[column] and group[column].isoformat()
    return found


def _state(group: dict[str, Any]) -> str:
    if group["disabled_at"]:
        return f"disabled {group['disabled_at'][:10]}"
    return "active" if group["has_compute_secret"] else "no compute secret"
