"""The routes, a module a subject."""

from __future__ import annotations

from fastapi import APIRouter

from leruli_queue.api.routes import agents, bulk, groups, nodes, tasks

VERSIONS = ("/v22_1", "/latest")
"""Prefixes under which every route of the wire contract stands."""


def versioned_router() -> APIRouter:
    """Return the routes of the wire contract, to be mounted under each of :data:`VERSIONS`."""
    router = APIRouter()
    for module in (tasks, bulk, groups, nodes, agents):
        router.include_router(module.router)
    return router
