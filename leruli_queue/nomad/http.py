"""Nomad's HTTP API by aiohttp, for dispatches and events: there are hundreds of them a second.

All other calls use python-nomad (:mod:`leruli_queue.nomad.gateway`), which is synchronous. Such a
call takes 1.3 ms of CPU, for the change of threads and the work of requests. By aiohttp it takes
0.3 ms.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson
import structlog
from yarl import URL

from leruli_queue.errors import SetupError
from leruli_queue.nomad.clusters import Cluster
from leruli_queue.nomad.errors import (
    NomadAwayError,
    NomadForbiddenError,
    NomadNotFoundError,
    refusal,
    unreachable,
)

log = structlog.get_logger(__name__)

MOST_OF_A_LINE = 64 * 2**20
"""Bytes of a line above which it is skipped: a thousand allocations are some ten million bytes.

Nodes write a part of each line, and no node may end the stream or fill the memory. The next
comparison finds the skipped events in Nomad's lists.
"""


class NomadHttp:
    """A client of one Nomad cluster, for one event loop. It connects at its first call."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._tls_read_from: list[int] = []

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, path: str, parameters: Mapping[str, str], body: Any) -> Any:
        """Post JSON to a path that is quoted already; return the JSON of the answer.

        Raises
        ------
        NomadError
            When Nomad refused.
        NomadAwayError
            When no answer came. Nomad may have done the call all the same.
        """
        with _map_aiohttp_errors():
            async with asyncio.timeout(self._cluster.timeout_s):
                response = await self._request("POST", path, parameters, orjson.dumps(body))
                async with response:
                    content = await response.read()
        if response.status != HTTPStatus.OK:
            raise refusal(response.status, content.decode(errors="replace"))
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError:
            raise NomadAwayError("Nomad's answer is not JSON") from None

    async def check_access(self) -> None:
        """Return if the cluster answers and its token is valid for the namespace.

        Raises
        ------
        NomadForbiddenError
            When there is no such namespace, or the token may not use it.
        NomadAwayError
            When Nomad cannot be reached or does not answer.
        """
        namespace = self._cluster.namespace
        with _map_aiohttp_errors():
            async with asyncio.timeout(self._cluster.timeout_s):
                path = f"/v1/namespace/{quote(namespace, safe='')}"
                response = await self._request("GET", path, {})
                async with response:
                    content = await response.text(errors="replace")
        if response.status == HTTPStatus.OK:
            return
        error = refusal(response.status, content)
        if isinstance(error, NomadNotFoundError):
            raise NomadForbiddenError(
                f"Nomad has no namespace {namespace!r}: make it (`nomad namespace apply "
                f"{namespace}`), or correct LERULI_QUEUE_NOMAD_NAMESPACE"
            )
        if not isinstance(error, NomadForbiddenError) or "token not found" in content:
            raise error
        if not self._cluster.token:
            raise NomadForbiddenError(
                "Nomad refuses calls without a token, and none is set (LERULI_QUEUE_NOMAD_TOKEN)"
            )
        raise NomadForbiddenError(
            f"Nomad refuses the service's token in the namespace {namespace!r} "
            f"({content.strip()}): "
            "Nomad does not know the token, its policy does not name the namespace, or there is no "
            "such namespace (LERULI_QUEUE_NOMAD_TOKEN, LERULI_QUEUE_NOMAD_NAMESPACE, "
            "nomad_jobs/service.policy.hcl)"
        )

    @asynccontextmanager
    async def lines(
        self, path: str, parameters: Mapping[str, str | list[str]], *, silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Get a streamed answer as lines without their ends, each up to MOST_OF_A_LINE.

        Parameters
        ----------
        silence_s
            Seconds without a byte after which the answer counts as broken.

        Raises
        ------
        NomadError
            When Nomad refused.
        NomadAwayError
            When the connection is lost, also from the iterator.
        """
        with _map_aiohttp_errors():
            async with asyncio.timeout(self._cluster.timeout_s):
                response = await self._request("GET", path, parameters)
            async with response:
                if response.status != HTTPStatus.OK:
                    raise refusal(response.status, await response.text(errors="replace"))
                yield _lines(response.content, silence_s)

    async def _request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str | list[str]],
        data: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        query = urlencode({"namespace": self._cluster.namespace, **parameters}, doseq=True)
        return await self._opened().request(
            method,
            # Already quoted: slashes in the ids of jobs must not separate parts of the path.
            URL(f"{self._cluster.address}{path}?{query}", encoded=True),
            data=data,
            # Callers set their own timeouts: aiohttp's leave the connection in an odd state.
            timeout=aiohttp.ClientTimeout(total=None),
            ssl=self._current_tls(),
            allow_redirects=False,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # In the same network compression costs the server more than it saves.
            headers = {"Accept-Encoding": "identity"}
            if self._cluster.token:
                headers["X-Nomad-Token"] = self._cluster.token.get_secret_value()
            self._session = aiohttp.ClientSession(
                headers=headers, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    def _current_tls(self) -> ssl.SSLContext:
        """Return the TLS context of new connections, read again when a file was renewed."""
        cluster = self._cluster
        files = (cluster.ca_file, cluster.cert_file, cluster.key_file)
        written = [file.stat().st_mtime_ns for file in files]
        if self._tls is None or written != self._tls_read_from:
            self._tls, self._tls_read_from = cluster.tls(), written
        return self._tls


async def _lines(content: aiohttp.StreamReader, silence_s: float) -> AsyncIterator[bytes]:
    """Yield the lines of the stream, except those longer than MOST_OF_A_LINE."""
    begun: list[bytes] = []
    length = 0
    while True:
        async with asyncio.timeout(silence_s):
            chunk = await content.readany()
        if not chunk:
            return
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            length += len(end)
            if length <= MOST_OF_A_LINE:
                yield b"".join([*begun, end])
            else:
                log.warning("skipped a line of Nomad that is too long", bytes=length)
            begun.clear()
            length = 0
        length += len(rest)
        # A line that is too long is counted but not stored.
        if length <= MOST_OF_A_LINE:
            begun.append(rest)
        else:
            begun.clear()


@contextmanager
def _map_aiohttp_errors() -> Iterator[None]:
    """Raise failures of aiohttp, and of reading the certificates, as errors of this package."""
    try:
        yield
    except TimeoutError:
        raise NomadAwayError("Nomad does not answer") from None
    except aiohttp.ClientError as error:
        raise unreachable(error) from None
    except (SetupError, OSError) as error:
        # The certificates are being renewed, or are missing.
        raise NomadAwayError(str(error)) from None
