"""Nomad's event stream, as far as it can be trusted.

The stream refuses a token in silence, drops events without a sign when a reader falls behind, and
may just stop. So: ``{}`` must come within two seconds of connecting, 40 seconds without a byte
mean that it is dead, and whoever reads it compares with Nomad's lists on every connect and every
few minutes (:mod:`leruli_queue.dispatch.reconciler`). Where the stream starts does not matter
then: it is asked for what comes from now on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson

from leruli_queue.nomad.clusters import Cluster
from leruli_queue.nomad.gateway import NomadAwayError

_HELLO_S = 2.0
_SILENCE_S = 40.0
# An index in the future: Nomad repeats its newest line and goes on live. Without an index it
# would replay all that it holds.
_FROM_NOW = 2**62

_TOPICS = ("Allocation", "Evaluation")


async def stream_events(cluster: Cluster) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield an empty list once connected, then the events of each line of the stream.

    Raises
    ------
    NomadAwayError
        When the stream cannot be opened, was refused, or is dead. Connect again, then reconcile.
    """
    token = cluster.token
    headers = {"X-Nomad-Token": token.get_secret_value()} if token else {}
    parameters: list[tuple[str, str | int | float | bool | None]] = [
        ("namespace", cluster.namespace),
        ("index", _FROM_NOW),
        *(("topic", topic) for topic in _TOPICS),
    ]
    url = f"{cluster.address}/v1/event/stream"
    timeout = httpx.Timeout(cluster.timeout_s, read=_SILENCE_S)
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, trust_env=False, verify=cluster.tls()) as client,
            client.stream("GET", url, params=parameters, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise NomadAwayError(f"the event stream answered {response.status_code}")
            lines = aiter(response.aiter_lines())
            await asyncio.wait_for(anext(lines), _HELLO_S)
            yield []
            async for line in lines:
                # The answer to an index in the future begins with an empty line.
                events = orjson.loads(line).get("Events") if line else None
                if events:
                    yield events
    except (TimeoutError, httpx.ReadTimeout):
        raise NomadAwayError("the event stream is silent: dead, or the token is refused") from None
    except (StopAsyncIteration, httpx.HTTPError) as error:
        raise NomadAwayError(f"the event stream broke: {type(error).__name__}") from error
    raise NomadAwayError("the event stream ended")
