"""Dispatchers that cannot use Nomad leave it to others: real processes, a real Nomad."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from nomad_world import NomadOfTest
from process_world import running
from pydantic import SecretStr
from service_world import GroupOfTest, make_jobs, state_of, stay_heard

from leruli_queue.access.authenticate import Node
from leruli_queue.nomad.errors import NomadAwayError, NomadForbiddenError
from leruli_queue.nomad.events import stream_events
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX
from leruli_queue.settings import Settings
from leruli_queue.store.pool import Pool

ACTIVE = "this dispatcher is active"


async def until_dispatched(pool: Pool, job_id: UUID) -> None:
    while (await state_of(pool, job_id))[0] == "received":  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.1)


@asynccontextmanager
async def elsewhere(nomad: NomadOfTest) -> AsyncIterator[str]:
    """An address that forwards to Nomad and is not in its certificate."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = nomad.state.ports.nomad_http
        from_nomad, to_nomad = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, to_nomad), copy(from_nomad, writer))

    server = await asyncio.start_server(forward, "127.0.0.2", 0)
    async with server:
        yield f"https://127.0.0.2:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"nomad_token": SecretStr("")}, "none is set (LERULI_QUEUE_NOMAD_TOKEN)"),
        ({"nomad_token": SecretStr(str(uuid4()))}, "Nomad refuses the service's token"),
        ({"nomad_address": "another"}, "is not for this address"),
    ],
    ids=["no token", "wrong token", "wrong address"],
)
async def test_a_dispatcher_that_cannot_use_nomad_does_not_keep_others_from_it(
    nomad_settings: Settings,
    nomad: NomadOfTest,
    pool: Pool,
    group: GroupOfTest,
    node: Node,
    change: dict[str, object],
    sentence: str,
) -> None:
    """D3: it held the lock for ever while a healthy one stood by."""
    async with asyncio.timeout(90), elsewhere(nomad) as address:
        if "nomad_address" in change:
            change = {"nomad_address": address}
        broken = nomad_settings.model_copy(update=change)
        await hand_over(broken, nomad_settings, sentence, pool, group)


async def hand_over(
    broken: Settings, healthy: Settings, sentence: str, pool: Pool, group: GroupOfTest
) -> None:
    await stay_heard(pool)
    async with running("dispatch", broken) as first:
        await first.until_said("Nomad cannot be used")
        async with running("dispatch", healthy) as second:
            await second.until_said(ACTIVE)
            [job_id] = await make_jobs(pool, group, 1)
            await until_dispatched(pool, job_id)
            assert first.process.returncode is None
            assert sentence in "".join(first.said)
            assert not any(ACTIVE in line for line in first.said)


async def test_an_active_dispatcher_with_a_revoked_token_hands_over_for_good(
    nomad_settings: Settings, nomad: NomadOfTest, pool: Pool, group: GroupOfTest, node: Node
) -> None:
    """D3: two dispatchers that cannot use Nomad do not exchange the lock all the time."""
    await stay_heard(pool)
    tokens = [nomad.make_token() for _ in range(2)]
    ours = [nomad_settings.model_copy(update={"nomad_token": SecretStr(t[1])}) for t in tokens]
    async with (
        asyncio.timeout(90),
        running("dispatch", ours[0]) as first,
        running("dispatch", ours[1]) as second,
    ):
        while not any(ACTIVE in line for line in first.said + second.said):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        leads = 0 if any(ACTIVE in line for line in first.said) else 1
        leader, other = (first, second) if leads == 0 else (second, first)
        await other.until_said("standing by")
        nomad.revoke_token(tokens[leads][0])
        await other.until_said(ACTIVE)
        await leader.until_said("it leaves the cluster to others")
        [job_id] = await make_jobs(pool, group, 1)
        await until_dispatched(pool, job_id)
        nomad.revoke_token(tokens[1 - leads][0])
        await other.until_said("it leaves the cluster to others")
        await asyncio.sleep(8)
        for process in (first, second):
            assert sum(ACTIVE in line for line in process.said) == 1
        noted = await pool.fetchrow("SELECT *, now() - seen_at AS age FROM dispatchers")
        assert noted["nomad_away_since"] is not None, noted
        assert noted["age"] < timedelta(seconds=15), noted


async def test_a_missing_namespace_is_reported_as_such(
    gateway: NomadGateway, nomad: NomadOfTest
) -> None:
    """D3: it was reported as "the token is refused"."""
    _, token = nomad.make_token("missing")
    missing = replace(gateway.cluster, namespace="missing", token=SecretStr(token))
    made = NomadGateway(missing)
    with pytest.raises(NomadForbiddenError, match="no namespace 'missing'"):
        await made.check_access()
    await made.close()
    # The token's policy does not name it, so Nomad does not say whether it exists.
    unnamed = replace(gateway.cluster, namespace="other")
    with pytest.raises(NomadForbiddenError, match="in the namespace 'other'"):
        await anext(stream_events(unnamed))


async def test_a_name_that_is_not_in_the_certificate_is_reported_as_such(
    gateway: NomadGateway, nomad: NomadOfTest
) -> None:
    """D3: it was reported as "cannot be reached: ClientConnectorError"."""
    async with elsewhere(nomad) as address:
        made = NomadGateway(replace(gateway.cluster, address=address))
        for call in (made.check_access(), made.list_alive_children(PARENT_PREFIX)):
            with pytest.raises(NomadAwayError, match="is not for this address") as refusal:
                await call
            assert "tls-init --server" in str(refusal.value)
        await made.close()
