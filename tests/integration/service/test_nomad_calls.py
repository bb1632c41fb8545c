"""Nomad's refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from leruli_queue.nomad.clusters import DEFAULT, read_clusters
from leruli_queue.nomad.errors import (
    NomadAwayError,
    NomadError,
    NomadForbiddenError,
    NomadNotFoundError,
)
from leruli_queue.nomad.events import stream_events
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX
from leruli_queue.settings import Settings


async def test_a_refused_stream_is_noticed(gateway: NomadGateway) -> None:
    wrong = replace(gateway.cluster, token=SecretStr(str(uuid4())))
    with pytest.raises(NomadForbiddenError, match="does not know the token"):
        await anext(stream_events(wrong))


async def test_nomads_refusals_are_distinguished(gateway: NomadGateway, settings: Settings) -> None:
    with pytest.raises(NomadError, match="400"):
        await gateway.parse_job("job {", "")
    nowhere = NomadGateway(read_clusters(settings)[DEFAULT])
    with pytest.raises(NomadAwayError):
        await nowhere.list_alive_children(PARENT_PREFIX)
    await nowhere.close()


async def test_a_dispatch_uses_renewed_certificates(gateway: NomadGateway, tmp_path: Path) -> None:
    files = {
        name: shutil.copy(getattr(gateway.cluster, name), tmp_path / name)
        for name in ("ca_file", "cert_file", "key_file")
    }
    made = NomadGateway(replace(gateway.cluster, **files))
    parent_id = f"{PARENT_PREFIX}none"

    async def dispatch() -> None:
        token = uuid4().hex
        await made.dispatch(parent_id, {}, id_prefix=token, idempotency_token=token)

    with pytest.raises(NomadNotFoundError):
        await dispatch()
    files["ca_file"].write_bytes(files["cert_file"].read_bytes())  # nobody's authority
    with pytest.raises(NomadAwayError, match="of another authority"):
        await dispatch()
    files["ca_file"].unlink()
    with pytest.raises(NomadAwayError, match="ca_file"):
        await dispatch()
    shutil.copy(gateway.cluster.ca_file, files["ca_file"])
    with pytest.raises(NomadNotFoundError):
        await dispatch()
    await made.close()
