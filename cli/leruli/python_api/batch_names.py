"""The batch that a caller names, from Python."""

from __future__ import annotations

from leruli.jobs.batches import resolve_batch
from leruli.python_api.arguments import as_text
from leruli.service.batches import BatchClient
from leruli.settings import ServiceSettings


def batch_id(connection: ServiceSettings, batch: str) -> str:
    """Return the id of a batch that is named by its id, its first digits, or its name.

    Raises TypeError, NotFoundError, RefusedError, ServiceError.
    """
    with BatchClient(connection) as service:
        return resolve_batch(service, as_text("batch", batch), ".")
