"""Calls to Nomad's HTTP API: the only module that imports python-nomad.

python-nomad is synchronous, so every call runs in a thread. Where the library lacks an endpoint
(HCL variables, node pools, introduction tokens) its raw ``request`` is used. Dispatches, of which
there are many, use :mod:`leruli_queue.nomad.http`.
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
# One call per thread, each on its own pooled connection.
_THREADS = 16
# Allocations per answer: some 2 MB.
_PAGE = 500


@dataclass(frozen=True)
class DispatchAnswer:
    """Nomad's answer to a dispatch."""

    child_id: str
    # Nomad knew the idempotency token already. After a call whose answer was lost, only then is
    # the id certain: of two concurrent calls one gets an id that does not exist.
    repeated: bool


class NomadGateway:
    """The calls to one Nomad cluster. Safe to share between tasks."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        session = requests.Session()
        session.trust_env = False  # proxies and netrc are for other hosts
        adapter = requests.adapters.HTTPAdapter(pool_connections=_THREADS, pool_maxsize=_THREADS)
        session.mount("https://", adapter)
        # In the same network compression costs the server more than it saves.
        session.headers["Accept-Encoding"] = "identity"
        self._client = nomad.Nomad(
            address=cluster.address,
            token=cluster.token.get_secret_value() if cluster.token else None,
            namespace=cluster.namespace,
            timeout=cluster.timeout_s,
            # Read for each new connection, so a renewed certificate needs no restart.
            verify=str(cluster.ca_file),
            cert=(str(cluster.cert_file), str(cluster.key_file)),
            session=session,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="nomad")
        self._http = NomadHttp(cluster)

    async def close(self) -> None:
        """End the threads and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._http.close()

    async def check_access(self) -> None:
        """Check access as :meth:`NomadHttp.check_access` does."""
        await self._http.check_access()

    # Jobs

    async def parse_job(self, hcl: str, variables: str) -> dict[str, Any]:
        """Return the job of an HCL text and its variables (also HCL), parsed by Nomad itself."""
        body = {"JobHCL": hcl, "Variables": variables, "Canonicalize": True}
        job: dict[str, Any] = await self._call(
            lambda: self._client.jobs.request("parse", json=body, method="post").json()
        )
        return job

    async def register_job(self, job: dict[str, Any]) -> None:
        """Register a job. An unchanged job gets no new version."""
        await self._call(lambda: self._client.job.register_job(_path(job["ID"]), {"Job": job}))

    async def dispatch(
        self, parent_id: str, meta: dict[str, str], *, id_prefix: str, idempotency_token: str
    ) -> DispatchAnswer:
        """Dispatch a child job of a parent job.

        Raises
        ------
        NomadNotFoundError
            When the parent job is not registered, or was stopped.
        NomadAwayError
            When no answer came. Nomad may have made the child job all the same.
        """
        answer = await self._http.post(
            f"/v1/job/{_path(parent_id)}/dispatch",
            # Nomad reads the token from the query and ignores it in the body.
            {"idempotency_token": idempotency_token},
            {"Meta": meta, "IdPrefixTemplate": id_prefix},
        )
        return DispatchAnswer(answer["DispatchedJobID"], repeated=not answer.get("EvalID"))

    async def stop_job(self, job_id: str) -> None:
        """Stop a job: its container ends and its output is uploaded. Unknown ids are no error."""
        with suppress(NomadNotFoundError):
            await self._call(lambda: self._client.job.deregister_job(_path(job_id)))

    async def purge_parent(self, parent_id: str) -> None:
        """Remove a parent job from Nomad; its child jobs go on. Unknown ids are no error.

        A parent job that is only stopped stays in the servers' memory until they collect garbage.
        """
        with suppress(NomadNotFoundError):
            await self._call(lambda: self._client.job.deregister_job(_path(parent_id), purge=True))

    async def list_alive_children(self, prefix: str) -> list[dict[str, Any]]:
        """List child jobs that are not dead and whose id has this prefix."""
        parameters = {"prefix": prefix, "filter": 'Status != "dead" and ParentID != ""'}
        found: list[dict[str, Any]] = await self._call(
            lambda: self._client.jobs.request(params=parameters, method="get").json()
        )
        return found

    # Allocations

    async def list_alive_allocations(self, job_prefix: str) -> list[dict[str, Any]]:
        """List pending, running and unknown allocations of jobs whose id has this prefix.

        The rows include the tasks' states. A row of a page costs Nomad a hundredth of a single
        read.
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
        """List the allocations of a job; an empty list if Nomad has no such job."""
        try:
            found: list[dict[str, Any]] = await self._call(
                lambda: self._client.job.request(_path(job_id), "allocations", method="get").json()
            )
        except NomadNotFoundError:
            return []
        return found

    async def read_allocation(self, allocation_id: str) -> dict[str, Any]:
        """Read one allocation with its tasks' states.

        Raises
        ------
        NomadNotFoundError
            When Nomad no longer has it.
        """
        found: dict[str, Any] = await self._call(
            lambda: self._client.allocation.request(_path(allocation_id), method="get").json()
        )
        return found

    # Nodes

    async def ensure_pool(self, pool: str) -> None:
        """Make a node pool unless it exists."""
        # python-nomad has no endpoint for pools. The path is relative to /v1/node.
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
        """Make sure that the pool exists; return an introduction token for the node."""
        await self.ensure_pool(pool)
        body = {"NodePool": pool, "NodeName": str(node_id), "TTL": _INTRODUCTION_TTL}
        answer = await self._call(
            lambda: self._client.acl.request(
                "identity", "client-introduction-token", json=body, method="post"
            ).json()
        )
        return str(answer["JWT"])

    async def set_eligible(self, node_id: UUID, *, eligible: bool) -> None:
        """Let Nomad place jobs on the node, or not. Its running jobs go on either way.

        Raises
        ------
        NomadNotFoundError
            When Nomad does not know the node.
        """
        await self._call(lambda: self._client.node.eligible_node(str(node_id), eligible=eligible))

    async def drain_node(self, node_id: UUID, deadline_s: float) -> None:
        """Place nothing more on the node; stop its remaining jobs after the deadline."""
        spec = {"Deadline": int(deadline_s * 1e9) or -1, "IgnoreSystemJobs": False}
        with suppress(NomadNotFoundError):
            await self._call(lambda: self._client.node.drain_node_with_spec(str(node_id), spec))

    async def end_drain(self, node_id: UUID) -> None:
        """Let the node take jobs again, if Nomad knows it."""
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
            raise _map_python_nomad_error(error) from None


def _map_python_nomad_error(error: exceptions.BaseNomadException) -> NomadError:
    response = error.nomad_resp
    if not isinstance(response, requests.Response):
        return (
            unreachable(response) if isinstance(response, Exception) else NomadAwayError(str(error))
        )
    return refusal(response.status_code, response.text)


def _path(part: str) -> str:
    """Quote an id for the path: ids of child jobs hold a slash."""
    return quote(part, safe="")
