"""What every route can ask for: settings, the pool of connections, Nomad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool


@dataclass(frozen=True)
class Context:
    """The parts of a running service that its routes share."""

    settings: Settings
    pool: Pool
    nomad: NomadGateway


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
