"""The package that makes a machine a node. nomadrun.tar holds no secret, so anybody may get it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from leruli_queue.access.roles import Call
from leruli_queue.api.context import ContextDep
from leruli_queue.api.schemas.common import Problem
from leruli_queue.errors import UserReportableError

_TAR = "application/x-tar"
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {_TAR: {"schema": {"type": "string", "format": "binary"}}}},
    404: {"model": Problem, "description": "This service has no package."},
}

router = APIRouter(tags=["nodes"])


@router.get(f"/{Call.NODE_PACKAGE}", response_class=FileResponse, responses=_ANSWERS)
def node_package(context: ContextDep) -> FileResponse:
    """Answer the package that `make dist` builds, if the operator has set one."""
    package: Path | None = context.settings.node_package
    if package is None or not package.is_file():
        raise UserReportableError(
            "This service has no nomadrun.tar. Ask the operator of the service for the package.",
            status=404,
        )
    return FileResponse(package, media_type=_TAR, filename=Call.NODE_PACKAGE)
