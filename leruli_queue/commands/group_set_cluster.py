"""``leruli-queue group-set-cluster``."""

from __future__ import annotations

import click

from leruli_queue.commands._database import with_database
from leruli_queue.errors import UserReportableError
from leruli_queue.groups.cluster import set_cluster
from leruli_queue.nomad.clusters import read_clusters
from leruli_queue.settings import load_settings


@click.command("group-set-cluster")
@click.argument("name")
@click.argument("cluster")
def command(name: str, cluster: str) -> None:
    """Run the jobs of the group NAME in the Nomad cluster CLUSTER.

    `default` is the cluster of the settings; the others are folders in
    LERULI_QUEUE_NOMAD_CLUSTERS_DIR. The group's nodes end when their running jobs are over, and
    have to be started again.
    """
    known = read_clusters(load_settings())
    if cluster not in known:
        raise UserReportableError(
            f"There is no Nomad cluster named {cluster!r} in the settings; they have "
            f"{', '.join(known)}.",
            status=404,
        )
    changed = with_database(lambda connection: set_cluster(connection, name, cluster))
    click.echo(f"Group {name} {'is now' if changed else 'was already'} in cluster {cluster}.")
