"""What every route can ask for: settings, the pool of connections, Nomad, the throttle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from leruli_queue.access.throttle import Throttle
from leruli_queue.api.metrics import Metrics
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@dataclass(frozen=True)
class Context:
    """The parts of a running service that its routes share."""

    settings: Settings
    pool: Pool
    nomad: NomadGateway
    throttle: Throttle
    metrics: Metrics


def context_of(request: Request) -> Context:
    """Return the parts that the request's service has."""
    context: Context = request.app.state.context
    return context


def address_of(request: Request) -> str | None:
    """Return the address that a request comes from, as far as the proxies are trusted with it."""
    return request.client.host if request.client else None


ContextDep = Annotated[Context, Depends(context_of)]
AddressDep = Annotated[str | None, Depends(address_of)]
