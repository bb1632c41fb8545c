"""The application: routes, error handlers, middleware and lifespan."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI

from leruli_queue import __version__
from leruli_queue.access.throttle import Throttle
from leruli_queue.api.context import open_context
from leruli_queue.api.errors import install_error_handlers
from leruli_queue.api.metrics import Metrics
from leruli_queue.api.middleware import BodyLimit, RequestLog
from leruli_queue.api.opening import opening
from leruli_queue.api.routes import VERSIONS, health, package, versioned_router
from leruli_queue.logs import set_up_logs
from leruli_queue.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service's ASGI application."""
    settings = settings or load_settings()
    set_up_logs(settings)
    metrics = Metrics()
    throttle = Throttle(
        longest_s=settings.refusal_delay_s, most_delayed=settings.max_delayed_refusals
    )

    def lifespan(app: FastAPI) -> AbstractAsyncContextManager[None]:
        return opening(app, settings, lambda pool: open_context(settings, pool, throttle, metrics))

    app = FastAPI(
        title="Leruli Queue",
        version=__version__,
        summary="A job broker for research groups.",
        lifespan=lifespan,
        # FastAPI's pages load scripts from other hosts. Any viewer can read /openapi.json.
        docs_url=None,
        redoc_url=None,
        # A redirect would repeat the URL, which may hold a pasted secret.
        redirect_slashes=False,
    )
    app.include_router(health.router)
    app.include_router(package.router)
    for prefix in VERSIONS:
        app.include_router(versioned_router(), prefix=prefix)
    install_error_handlers(app)
    app.add_middleware(
        BodyLimit,
        most=settings.max_body_bytes,
        most_of_all=settings.max_held_bytes,
        seconds=settings.body_timeout_s,
    )
    app.add_middleware(RequestLog, metrics=metrics)
    return app
