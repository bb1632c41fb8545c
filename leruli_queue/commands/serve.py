"""``leruli-queue serve``."""

from __future__ import annotations

import click
import uvicorn

from leruli_queue.settings import load_settings


@click.command("serve")
def command() -> None:
    """Serve the HTTP API.

    Stateless: start as many copies as you like behind a balancer. Settings come from the
    environment (docs/settings.md).
    """
    settings = load_settings()
    uvicorn.run(
        "leruli_queue.api.app:create_app",
        factory=True,
        host=settings.listen_host,
        port=settings.listen_port,
        workers=settings.listen_workers,
        log_config=None,  # structlog does it
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=10,
    )
