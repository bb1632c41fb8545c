"""``leruli-queue tls-init``."""

from __future__ import annotations

from pathlib import Path

import click

from leruli_queue.nodes.tls_folder import TlsFolder


@click.command("tls-init")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="HOST",
    help="Name or address of a Nomad server; repeat it for each.",
)
@click.option("--region", default="global", show_default=True, help="Nomad's region.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=365,
    show_default=True,
    help="How long the certificates of servers and service are valid.",
)
def command(folder: Path, servers: tuple[str, ...], region: str, days: int) -> None:
    """Make the certificates of a Nomad cluster in FOLDER.

    The authority is made once, for ten years. The certificates of the servers and of the service
    are made each time, so run this again to renew them. All of Nomad's traffic is then mutual TLS.
    A node gets its own certificate when it joins.
    """
    made = TlsFolder(folder.absolute())
    is_new = made.renew(region, servers, days=days)
    click.echo(
        f"{'Made' if is_new else 'Kept'} the authority {made.ca}, and made in {made.folder}:\n"
        f"\n"
        f"  server.pem, server-key.pem   for each Nomad server, with ca.pem:\n"
        f"\n"
        f"    tls {{\n"
        f"      http                   = true\n"
        f"      rpc                    = true\n"
        f"      ca_file                = {_quoted(made.ca)}\n"
        f"      cert_file              = {_quoted(made.server)}\n"
        f"      key_file               = {_quoted(made.server_key)}\n"
        f"      verify_server_hostname = true\n"
        f"      verify_https_client    = true\n"
        f"    }}\n"
        f"\n"
        f"    The servers' gossip (port 4648) is not TLS. It needs the same key on all servers:\n"
        f"    `nomad operator gossip keyring generate` makes it, for\n"
        f"\n"
        f'    server {{ encrypt = "<the key>" }}\n'
        f"\n"
        f"  broker.pem, broker-key.pem   for the service:\n"
        f"\n"
        f"    LERULI_QUEUE_NOMAD_CA_FILE={made.ca}\n"
        f"    LERULI_QUEUE_NOMAD_CA_KEY_FILE={made.ca_key}   # `serve` alone\n"
        f"    LERULI_QUEUE_NOMAD_CERT_FILE={made.broker}\n"
        f"    LERULI_QUEUE_NOMAD_KEY_FILE={made.broker_key}\n"
        f"\n"
        f"Keep ca-key.pem where only `serve` can read it: its holder can act as any part of the\n"
        f"cluster. The certificates are valid for {days} days. Run this again before they expire,\n"
        f"then send Nomad SIGHUP."
    )


def _quoted(path: Path) -> str:
    return f'"{path}"'
