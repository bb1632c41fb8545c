"""Clients that send slowly or nothing to a real `serve`: other clients still get answers."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import uuid4

import pytest
from process_world import ServeOfTest, serving
from service_world import GroupOfTest, holding

from leruli_queue.settings import Settings

Streams = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
PATH = b"/v22_1/bulk/task-submit"


@asynccontextmanager
async def clients(serve: ServeOfTest, count: int, sent: bytes = b"") -> AsyncIterator[Streams]:
    """Open ``count`` connections, send this on each, and nothing more."""
    opened: Streams = []
    try:
        for _ in range(count):
            opened.append(await asyncio.open_connection("127.0.0.1", serve.port))
            with suppress(OSError):
                opened[-1][1].write(sent)
                await opened[-1][1].drain()
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def rest_of(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """Read from a connection until the service closes it."""
    with suppress(OSError):
        return await stream[0].read()
    return b""


async def is_answered(serve: ServeOfTest, group: GroupOfTest) -> None:
    """Another user's calls: a small one, and a submission of many jobs."""
    async with asyncio.timeout(10):
        token = await serve.client.post("/v22_1/group-token", json={"secret": group.user_secret})
        assert token.json() == group.token, token.text
        job = {"secret": group.user_secret, "codeversion": "a:1", "name": "n" * 100}
        jobs = [job | {"bucketid": str(uuid4())} for _ in range(500)]
        answer = await serve.client.post("/v22_1/bulk/task-submit", json=jobs)
        assert answer.status_code == 200, answer.text


@contextmanager
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 4096), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("sent", [b"", b"POST " + PATH + b" HTTP/1.1\r\nHost: a\r\n", b"\r\n"])
async def test_a_thousand_idle_connections(
    settings: Settings, group: GroupOfTest, sent: bytes
) -> None:
    """M13: with the usual limit of 1,024 open files no other client ever got a connection."""
    async with (
        asyncio.timeout(120),
        serving(settings, open_files=(1024, 4096), header_timeout_s=8) as serve,
    ):
        await serve.until_ready()
        with many_files():
            async with clients(serve, 1100, sent) as idle:
                await is_answered(serve, group)
                for stream in idle:
                    assert await rest_of(stream) == b""


async def test_one_connection_too_many_closes_the_one_awaited_for_longest(
    settings: Settings, group: GroupOfTest
) -> None:
    """M13: the number of connections had no limit."""
    async with (
        asyncio.timeout(120),
        serving(settings, max_connections=50, header_timeout_s=600) as serve,
    ):
        await serve.until_ready()
        async with clients(serve, 120) as idle:
            await is_answered(serve, group)
            for stream in idle[:60]:
                assert await rest_of(stream) == b""
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(rest_of(idle[-1]), 0.5)


async def test_bodies_that_never_end(settings: Settings, group: GroupOfTest) -> None:
    """M13: each was held in memory for ever, before any secret was checked."""
    begun = b"POST " + PATH + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
    async with (
        asyncio.timeout(120),
        serving(settings, max_held_bytes=2_000_000, body_timeout_s=6) as serve,
    ):
        await serve.until_ready()
        async with clients(serve, 20, begun + b"[" + b" " * 400_000) as slow:
            await is_answered(serve, group)
            answers = [await rest_of(stream) for stream in slow]
        statuses = [answer.split(b" ")[1:2] for answer in answers]
        # Beyond 2 MB the oldest were refused at once, the others after 6 s. An answer may be lost,
        # because unread data was left on the connection.
        assert 1 <= statuses.count([b"408"]) <= 5
        assert {tuple(status) for status in statuses} <= {(b"503",), (b"408",), ()}
        assert any(b"reads too many large bodies at once" in answer for answer in answers)
        assert all(b"connection: close" in answer.lower() for answer in answers if answer)


@pytest.mark.parametrize("path", [PATH, b"/nothing-here", b"/livez"])
async def test_a_body_that_drips(settings: Settings, path: bytes) -> None:
    """M13: also a body that no route reads, because the answer was given at once."""
    async with asyncio.timeout(100), serving(settings, body_timeout_s=1) as serve:
        begun = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n["
        async with clients(serve, 1, begun) as [stream]:
            reading = asyncio.create_task(rest_of(stream))
            while not reading.done():
                with suppress(OSError):
                    stream[1].write(b" ")
                await asyncio.sleep(0.1)


async def test_a_header_that_never_ends(settings: Settings) -> None:
    """M13: it was collected in memory as fast as it arrived."""
    async with asyncio.timeout(100), serving(settings, header_timeout_s=600) as serve:
        begun = b"POST " + PATH + b" HTTP/1.1\r\n"
        async with clients(serve, 1, begun) as [stream]:
            with suppress(OSError):
                for number in range(1000):
                    stream[1].write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
                    await stream[1].drain()
            assert await rest_of(stream) == b""


async def test_an_answer_may_take_longer_than_a_request(
    settings: Settings, group: GroupOfTest
) -> None:
    """As with a long poll: only requests have timeouts."""
    async with (
        asyncio.timeout(100),
        serving(settings, header_timeout_s=1, body_timeout_s=1) as serve,
    ):
        await serve.until_ready()
        async with holding(settings, "LOCK attempts"):
            body = {"grouptoken": group.token}
            asking = asyncio.create_task(serve.client.post("/v22_1/group-usage", json=body))
            await asyncio.sleep(3)
            assert not asking.done()
        assert (await asking).status_code == 200
