"""``leruli-queue serve``."""

from __future__ import annotations

import click
import uvicorn

from leruli_queue.api.connections import Connection, raise_file_limit
from leruli_queue.errors import SetupError
from leruli_queue.hosts import is_loopback
from leruli_queue.settings import Settings, load_settings


@click.command("serve")
def command() -> None:
    """Serve the HTTP API.

    Stateless: start as many copies as you like behind a load balancer. Settings come from the
    environment (docs/admins/settings.md).
    """
    settings = load_settings()
    _refuse_plain_http(settings)
    raise_file_limit()  # the workers inherit it
    uvicorn.run(
        "leruli_queue.api.app:create_app",
        factory=True,
        http=Connection,
        host=settings.listen_host,
        port=settings.listen_port,
        workers=settings.listen_workers,
        log_config=None,  # set_up_logs configures logging
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=10,
    )


def _refuse_plain_http(settings: Settings) -> None:
    if settings.allow_plain_http or is_loopback(settings.listen_host):
        return
    raise SetupError(
        f"LERULI_QUEUE_LISTEN_HOST is {settings.listen_host}, where other machines reach this "
        "service by plain http, and all secrets can be read on their way. Listen on 127.0.0.1 and "
        "put a proxy with TLS in front of it (docs/admins/operate.md). If the proxy is on another "
        "machine, or you trust the network, set LERULI_QUEUE_ALLOW_PLAIN_HTTP=true."
    )
