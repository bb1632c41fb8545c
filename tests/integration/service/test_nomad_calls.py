"""How Nomad says no."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.nomad.events import stream_events
from leruli_queue.nomad.gateway import NomadAwayError, NomadError, NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX
from leruli_queue.settings import Settings


async def test_a_stream_that_is_refused_is_noticed(gateway: NomadGateway) -> None:
    wrong = replace(gateway.cluster, token=SecretStr(str(uuid4())))
    with pytest.raises(NomadAwayError, match="silent"):
        await anext(stream_events(wrong))


async def test_nomads_refusals_are_told_apart(gateway: NomadGateway, settings: Settings) -> None:
    with pytest.raises(NomadError, match="400"):
        await gateway.parse_job("job {", "")
    nowhere = NomadGateway(read_clusters(settings)[DEFAULT])
    with pytest.raises(NomadAwayError):
        await nowhere.list_alive_children(PARENT_PREFIX)
    nowhere.close()
