"""Map every exception to an answer that helps a person and holds no secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from leruli_queue.access.authenticate import SecretRefusedError
from leruli_queue.access.throttle import TooManyAttemptsError
from leruli_queue.api.context import address_of, context_of
from leruli_queue.errors import UserReportableError
from leruli_queue.nomad.errors import NomadError
from leruli_queue.store.pool import DATABASE_AWAY

log = structlog.get_logger(__name__)

_NOT_AN_OBJECT = "it has to be a JSON object, sent with Content-Type: application/json"
_UNREADABLE = (
    "The body cannot be read: it has to be JSON in UTF-8, without thousands of nested brackets and "
    "without numbers of thousands of digits."
)
_MESSAGES = {
    "missing": "it is missing",
    "model_attributes_type": _NOT_AN_OBJECT,
    "model_type": _NOT_AN_OBJECT,
    "dict_type": _NOT_AN_OBJECT,
}


def sentence_of(faults: Iterable[Mapping[str, Any]]) -> str:
    """Say which fields of a body are wrong and why, without their values.

    FastAPI's own answer repeats the body, which holds the secret.
    """
    sentences = []
    for fault in faults:
        where = ".".join(str(part) for part in fault["loc"] if part != "body")
        message = _MESSAGES.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "json_invalid":
            sentences.append(f"The body is not JSON (at character {where})")
        else:
            sentences.append(f"Parameter {where}: {message}" if where else f"The body: {message}")
    return "; ".join(sentences[:10])


def install_error_handlers(app: FastAPI) -> None:
    """Answer errors as ``{"detail": sentence}``."""

    @app.exception_handler(SecretRefusedError)
    async def secret_refused(request: Request, error: SecretRefusedError) -> JSONResponse:
        try:
            await context_of(request).throttle.hold_back(address_of(request), [error.key_id])
        except TooManyAttemptsError as refusal:
            return await reportable(request, refusal)
        return await reportable(request, error)

    @app.exception_handler(UserReportableError)
    async def reportable(request: Request, error: UserReportableError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
        return _problem(request, error.status, error.message, headers)

    @app.exception_handler(NomadError)
    async def nomad_away(request: Request, error: NomadError) -> JSONResponse:
        log.error("Nomad failed a call", why=str(error))
        return _problem(
            request,
            503,
            "The cluster manager (Nomad) does not answer the service. Try again in a moment.",
            {"Retry-After": "5"},
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _problem(request, 422, sentence_of(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # FastAPI: Python's JSON parser could not read the body
            return _problem(request, 422, _UNREADABLE)
        return _problem(request, error.status_code, f"{error.detail}.", error.headers)

    for kind in DATABASE_AWAY:
        app.add_exception_handler(kind, _database_away)
    app.add_exception_handler(Exception, _defect)


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("the database is away", why=f"{type(error).__name__}: {error}")
    return _problem(
        request,
        503,
        "The service's database cannot be used for a moment. Nothing was lost; try again.",
        {"Retry-After": "2"},
    )


async def _defect(request: Request, _error: Exception) -> JSONResponse:
    return _problem(
        request,
        500,
        "This is a defect of the service, not of your request. Please report it with the "
        "X-Request-ID of this answer.",
    )


def _problem(
    request: Request, status: int, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    content = {"detail": message}
    if request.url.path.endswith("/task-cancel"):
        # The published client reads these two fields of every answer, also of an error.
        content |= {"status": "not cancelled", "reason": message}
    return JSONResponse(content, status_code=status, headers=dict(headers or {}))
