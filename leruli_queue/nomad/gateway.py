"""Calls to Nomad's HTTP API: the sole importer of python-nomad.

python-nomad is synchronous; every call runs in a thread. Where the library lacks something
(HCL variables, node pools, introduction tokens) its raw ``request`` is used. Dispatches, which are
many, go by :mod:`leruli_queue.nomad.http`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import UUID

import requests
from nomad.api import exceptions

import nomad
from leruli_queue.nomad.clusters import Cluster
from leruli_queue.nomad.errors import (
    NomadAwayError,
    NomadError,
    NomadNotFoundError,
    refusal,
    unreachable,
)
from leruli_queue.nomad.http import NomadHttp

_T = TypeVar("_T")

_INTRODUCTION_TTL = "5m"
# One call a thread, each on one of the kept connections.
_THREADS = 16
# Allocations in one answer: some 2 MB.
_PAGE = 500


@dataclass(frozen=True)
class DispatchAnswer:
    """What Nomad answered to a dispatch."""

    child_id: str
    # Nomad knew the idempotency token already. Only then is the id certain after a call whose
    # answer was lost: of two calls under way at once the loser is told an id that does not exist.
    repeated: bool


class NomadGateway:
    """A Nomad cluster, as the service and the dispatcher need it. Safe to share between tasks."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        session = requests.Session()
        session.trust_env = False  # proxies and netrc are for the outside world
        adapter = requests.adapters.HTTPAdapter(pool_connections=_THREADS, pool_maxsize=_THREADS)
        session.mount("https://", adapter)
        # Compressing for a reader on the same network costs the server more than it saves.
        session.headers["Accept-Encoding"] = "identity"
        self._client = nomad.Nomad(
            address=cluster.address,
            token=cluster.token.get_secret_value() if cluster.token else None,
            namespace=cluster.namespace,
            timeout=cluster.timeout_s,
            # Read for each new connection, so that a renewed certificate is used without a restart.
            verify=str(cluster.ca_file),
            cert=(str(cluster.cert_file), str(cluster.key_file)),
            session=session,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="nomad")
        self._http = NomadHttp(cluster)

    async def close(self) -> None:
        """Let the threads end, and close the connections for dispatches."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._http.close()

    async def check_access(self) -> None:
        """Do as :meth:`NomadHttp.check_access`."""
        await self._http.check_access()

    # Jobs

    async def parse_job(self, hcl: str, variables: str) -> dict[str, Any]:
        """Turn HCL and its variables (in HCL as well) into a job, by Nomad's own parser."""
        body = {"JobHCL": hcl, "Variables": variables, "Canonicalize": True}
        job: dict[str, Any] = await self._call(
            lambda: self._client.jobs.request("parse", json=body, method="post").json()
        )
        return job

    async def register_job(self, job: dict[str, Any]) -> None:
        """Register a job; an unchanged one makes no new version."""
        await self._call(lambda: self._client.job.register_job(_path(job["ID"]), {"Job": job}))

    async def dispatch(
        self, parent_id: str, meta: dict[str, str], *, id_prefix: str, idempotency_token: str
    ) -> DispatchAnswer:
        """Dispatch a child of a parameterized job.

        Raises
        ------
        NomadNotFoundError
            When the parent is not registered, or was stopped.
        NomadAwayError
            When Nomad may have taken it all the same.
        """
        answer = await self._http.post(
            f"/v1/job/{_path(parent_id)}/dispatch",
            # Nomad reads the token from the query; in the body it is not looked at.
            {"idempotency_token": idempotency_token},
            {"Meta": meta, "IdPrefixTemplate": id_prefix},
        )
        return DispatchAnswer(answer["DispatchedJobID"], repeated=not answer.get("EvalID"))

    async def stop_job(self, job_id: str) -> None:
        """Stop a job: its container is ended, its output brought. An unknown one is no error."""
        with suppress(NomadNotFoundError):
            await self._call(lambda: self._client.job.deregister_job(_path(job_id)))

    async def purge_parent(self, parent_id: str) -> None:
        """Have Nomad forget a parameterized job; what was dispatched from it goes on.

        Stopped and not forgotten it would stay in the servers' memory until they collect garbage.
        An unknown one is no error.
        """
        with suppress(NomadNotFoundError):
            await self._call(lambda: self._client.job.deregister_job(_path(parent_id), purge=True))

    async def list_alive_children(self, prefix: str) -> list[dict[str, Any]]:
        """List the dispatched jobs whose id begins so and which are not over."""
        parameters = {"prefix": prefix, "filter": 'Status != "dead" and ParentID != ""'}
        found: list[dict[str, Any]] = await self._call(
            lambda: self._client.jobs.request(params=parameters, method="get").json()
        )
        return found

    # Allocations

    async def list_alive_allocations(self, job_prefix: str) -> list[dict[str, Any]]:
        """List what is placed for jobs whose id begins so and not over, as far as Nomad knows.

        With the tasks' states: one row of a page costs Nomad a hundredth of reading it singly.
        """
        alive = " or ".join(
            f'ClientStatus == "{status}"' for status in ("pending", "running", "unknown")
        )
        parameters = {
            "filter": f'JobID matches "^{job_prefix}" and ({alive})',
            "per_page": str(_PAGE),
        }
        found: list[dict[str, Any]] = []
        while True:
            page = await self._call(
                lambda: self._client.allocations.request(params=parameters, method="get")
            )
            found.extend(page.json())
            following = page.headers.get("X-Nomad-NextToken")
            if not following:
                return found
            parameters["next_token"] = following

    async def allocations_of(self, job_id: str) -> list[dict[str, Any]]:
        """List all that a job was placed as; an empty list also when Nomad has no such job."""
        try:
            found: list[dict[str, Any]] = await self._call(
                lambda: self._client.job.request(_path(job_id), "allocations", method="get").json()
            )
        except NomadNotFoundError:
            return []
        return found

    async def read_allocation(self, allocation_id: str) -> dict[str, Any]:
        """Read one allocation, its tasks' states included.

        Raises
        ------
        NomadNotFoundError
            When it is not there any more.
        """
        found: dict[str, Any] = await self._call(
            lambda: self._client.allocation.request(_path(allocation_id), method="get").json()
        )
        return found

    # Nodes

    async def ensure_pool(self, pool: str) -> None:
        """Make a node pool unless it is there."""
        # python-nomad has no endpoint for pools; the path is relative to /v1/node.
        await self._call(
            lambda: self._client.node.request("pools", json={"Name": pool}, method="post")
        )

    async def list_nodes(self) -> list[dict[str, Any]]:
        """List the nodes that Nomad knows, with their status."""
        found: list[dict[str, Any]] = await self._call(
            lambda: self._client.nodes.request(method="get").json()
        )
        return found

    async def admit_node(self, node_id: UUID, pool: str) -> str:
        """Make sure of the pool and return a token to register with."""
        await self.ensure_pool(pool)
        body = {"NodePool": pool, "NodeName": str(node_id), "TTL": _INTRODUCTION_TTL}
        answer = await self._call(
            lambda: self._client.acl.request(
                "identity", "client-introduction-token", json=body, method="post"
            ).json()
        )
        return str(answer["JWT"])

    async def set_eligible(self, node_id: UUID, *, eligible: bool) -> None:
        """Let Nomad place on the node or not; what runs there is left alone.

        Raises
        ------
        NomadNotFoundError
            When Nomad does not know the node.
        """
        await self._call(lambda: self._client.node.eligible_node(str(node_id), eligible=eligible))

    async def drain_node(self, node_id: UUID, deadline_s: float) -> None:
        """Place nothing more on the node and stop what is left there after the deadline."""
        spec = {"Deadline": int(deadline_s * 1e9) or -1, "IgnoreSystemJobs": False}
        with suppress(NomadNotFoundError):
            await self._call(lambda: self._client.node.drain_node_with_spec(str(node_id), spec))

    async def end_drain(self, node_id: UUID) -> None:
        """Let the node take jobs again, if it is known."""
        with suppress(NomadNotFoundError):
            await self._call(
                lambda: self._client.node.drain_node_with_spec(
                    str(node_id), None, mark_eligible=True
                )
            )

    async def _call(self, call: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call)
        except exceptions.BaseNomadException as error:
            raise _translated(error) from None


def _translated(error: exceptions.BaseNomadException) -> NomadError:
    response = error.nomad_resp
    if not isinstance(response, requests.Response):
        return (
            unreachable(response) if isinstance(response, Exception) else NomadAwayError(str(error))
        )
    return refusal(response.status_code, response.text)


def _path(part: str) -> str:
    """Quote an id for the path: the ids of dispatched jobs hold a slash."""
    return quote(part, safe="")
