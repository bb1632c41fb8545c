"""Nodes that only report, on one `serve`: with reports that wait there, and as older agents do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from uuid import uuid4

import asyncpg
import orjson

from bench.load import request
from bench.stack import Stack
from leruli_queue.access.secrets import SecretType, make

REPORT_S = 15.0
# Images of each report, as of a node that works.
_IMAGES = 20
_AGAIN_S = 2.0


def add_nodes(stack: Stack, count: int) -> list[str]:
    """Insert nodes of the group that look alive; return their tokens."""
    return asyncio.run(_add_nodes(stack, count))


async def _add_nodes(stack: Stack, count: int) -> list[str]:
    connection = await asyncpg.connect(stack.database_url)
    tokens = [make(SecretType.NODE) for _ in range(count)]
    try:
        await connection.executemany(
            "INSERT INTO nodes (id, group_id, cluster, name, key_id, token_hash, epoch, cores,"
            " memory_mb, agent_version, alive)"
            " SELECT $1::uuid, g.id, g.cluster, $1::uuid::text, $2, $3, g.compute_epoch,"
            " 8, 16000, 'bench', true FROM groups g WHERE g.id = $4",
            [(uuid4(), token.key_id, token.hash, stack.user.group_id) for token in tokens],
        )
    finally:
        await connection.close()
    return [token.text for token in tokens]


class Nodes:
    """Nodes at rest, each with its reports.

    Parameters
    ----------
    waits
        Whether their reports wait at the service.
    """

    def __init__(self, port: int, tokens: Sequence[str], *, waits: bool) -> None:
        self._port = port
        self._tokens = tokens
        self._waits = waits
        self.reports = 0
        #: Reports that were answered 503: the machine is too busy.
        self.refused = 0
        #: When each answer with news came.
        self.news: list[float] = []

    async def run(self) -> None:
        """Report until cancelled. The nodes began within one report period."""
        await asyncio.gather(*(self._node(token) for token in self._tokens))

    async def _node(self, token: str) -> None:
        await asyncio.sleep(random.uniform(0, REPORT_S))  # noqa: S311
        known, streams = None, None
        while True:
            # The server closes a connection without a request after 5 s.
            streams = streams or await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = streams
            writer.write(_report(token, known))
            answer = await _answer(reader)
            if answer is None:
                self.refused += 1
                await asyncio.sleep(_AGAIN_S)
                continue
            self.reports += 1
            if self._waits:
                if known is not None and answer["said"] != known:
                    self.news.append(time.monotonic())
                known = answer["said"]
            else:
                writer.close()
                streams = None
                await asyncio.sleep(REPORT_S)


def _report(token: str, known: str | None) -> bytes:
    body = {
        "nodetoken": token,
        "agentversion": "1.0.0",
        "nomadversion": "1.9.0",
        "images": [f"program{number}:1.{number}" for number in range(_IMAGES)],
        "diskfreemb": 100_000,
        "disktotalmb": 200_000,
        "attempts": [],
        "known": known,
    }
    return request("/v22_1/node-report", orjson.dumps(body))


async def _answer(reader: asyncio.StreamReader) -> dict[str, str] | None:
    """Return an answer; None for 503."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().lower().splitlines()
    length = next(line for line in lines if line.startswith("content-length:"))
    body = await reader.readexactly(int(length.split(":")[1]))
    if " 503 " in lines[0]:
        return None
    if " 200 " not in lines[0]:
        raise RuntimeError(lines[0])
    return dict(orjson.loads(body))
