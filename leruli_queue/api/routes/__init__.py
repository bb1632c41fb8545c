"""The routes, one module for each subject."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.api.routes import agents, batches, bulk, events, groups, nodes, tasks

VERSIONS = ("/v22_1", "/latest")
"""Prefixes of every route of the wire contract."""


def versioned_router() -> APIRouter:
    """Return the routes of the wire contract, to mount under each of :data:`VERSIONS`."""
    router = APIRouter()
    for module in (tasks, bulk, batches, events, groups, nodes, agents):
        router.include_router(module.router)
    return router
