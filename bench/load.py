"""A cheap load generator, as it shares the cores with the service that it measures.

Requests are built before the clock starts, and answers are read after it stops. In between each
answer costs one small callback, on uvloop and httptools.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import httptools
import uvloop


@dataclass(frozen=True)
class Answer:
    """The answer to one request, with the time until it was complete in s."""

    status: int
    body: bytes
    seconds: float


@dataclass(frozen=True)
class Load:
    """All answers in the order of the requests, and the time that they took together in s."""

    answers: Sequence[Answer]
    seconds: float


class UnexpectedAnswerError(Exception):
    """The service gave another answer than the measurement needs."""


def request(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(port: int, requests: Sequence[bytes], *, connections: int, limit_s: float) -> Load:
    """Send requests over several connections, one request at a time on each.

    Raises
    ------
    TimeoutError
        If all of it takes longer than ``limit_s``.
    UnexpectedAnswerError
        If the service closes a connection, or an answer is not 200.
    """
    load = uvloop.run(_send(port, requests, connections, limit_s))
    for answer in load.answers:
        if answer.status != 200:
            raise UnexpectedAnswerError(f"{answer.status}: {answer.body[:300]!r}")
    return load


async def _send(port: int, requests: Sequence[bytes], connections: int, limit_s: float) -> Load:
    loop = asyncio.get_running_loop()
    shared = _Shared(requests)
    opened = [
        (await loop.create_connection(lambda: _Client(shared), "127.0.0.1", port))[1]
        for _ in range(min(connections, len(requests)))
    ]
    began = time.perf_counter()
    for client in opened:
        client.send_next()
    try:
        async with asyncio.timeout(limit_s):
            await shared.done
        seconds = time.perf_counter() - began
    finally:
        for client in opened:
            client.close()
    return Load([shared.answers[position] for position in range(len(requests))], seconds)


class _Shared:
    """Requests that are not sent yet, and answers so far, of all connections."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self.requests = requests
        self.next = 0
        self.answers: dict[int, Answer] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(UnexpectedAnswerError(why))


class _Client(asyncio.Protocol):
    """One connection. httptools calls the methods on_…."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._position = 0
        self._sent_at = 0.0
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the methods of asyncio.Transport, but is no subclass.
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        shared = self._shared
        if shared.next == len(shared.requests):
            return
        self._position, shared.next = shared.next, shared.next + 1
        self._sent_at = time.perf_counter()
        self._transport.write(shared.requests[self._position])

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        shared = self._shared
        shared.answers[self._position] = Answer(
            self._parser.get_status_code(),
            b"".join(self._body),
            time.perf_counter() - self._sent_at,
        )
        self._body.clear()
        if len(shared.answers) == len(shared.requests):
            if not shared.done.done():
                shared.done.set_result(None)
            return
        self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if len(self._shared.answers) < len(self._shared.requests):
            self._shared.fail(f"The service closed a connection: {error}")

    def close(self) -> None:
        self._transport.close()
