"""Nomad's event stream, with checks for its silent failures.

The stream refuses a token silently, drops events silently when a reader falls behind, and may just
stop. Therefore:

- ``{}`` must come within two seconds of connecting.
- The stream counts as dead after 40 seconds without a byte.
- The reader compares with Nomad's lists on every connect and every few minutes
  (:mod:`leruli_queue.dispatch.reconciler`).

Because of the comparisons the start of the stream does not matter: only new events are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson

from leruli_queue.nomad.clusters import Cluster
from leruli_queue.nomad.errors import NomadAwayError
from leruli_queue.nomad.http import NomadHttp

_HELLO_S = 2.0
_SILENCE_S = 40.0
# An index in the future: Nomad repeats its newest line and goes on live. Without an index it
# would replay all events that it holds.
_FROM_NOW = 2**62

_TOPICS = ["Allocation", "Evaluation"]


async def stream_events(cluster: Cluster) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield an empty list once connected, then the events of each line of the stream.

    Raises
    ------
    NomadError
        When the stream cannot be opened, was refused, or is dead. Connect again, then compare.
    """
    http = NomadHttp(cluster)
    parameters: dict[str, str | list[str]] = {"index": str(_FROM_NOW), "topic": _TOPICS}
    try:
        async with http.lines("/v1/event/stream", parameters, silence_s=_SILENCE_S) as lines:
            try:
                async with asyncio.timeout(_HELLO_S):
                    await anext(lines)
            except (TimeoutError, StopAsyncIteration) as error:
                # The stream does not report a refused token or a missing namespace. It stays
                # silent, or now and then it ends at once.
                await http.check_access()
                ended = isinstance(error, StopAsyncIteration)
                did = "ended as it began" if ended else "is silent"
                raise NomadAwayError(f"the event stream {did}") from None
            yield []
            async for line in lines:
                # The answer to an index in the future starts with an empty line.
                events = orjson.loads(line).get("Events") if line else None
                if events:
                    yield events
    finally:
        await http.close()
    raise NomadAwayError("the event stream ended")
