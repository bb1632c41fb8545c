"""No request waits for a thread: FastAPI runs in threads what is not a coroutine."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from leruli_queue.api.routes import agents, bulk, groups, health, nodes, tasks


def _calls(dependant: Dependant) -> Iterator[object]:
    if dependant.call is not None:
        yield dependant.call
    for further in dependant.dependencies:
        yield from _calls(further)


def test_routes_and_their_dependencies_are_coroutines() -> None:
    routes = [
        route
        for module in (tasks, bulk, groups, nodes, agents, health)
        for route in module.router.routes
    ]
    assert routes
    for route in routes:
        assert isinstance(route, APIRoute)
        for call in _calls(route.dependant):
            assert inspect.iscoroutinefunction(call), f"{route.path} waits for a thread of {call}"
