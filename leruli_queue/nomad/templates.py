"""Makes parent jobs from the HCL in ``nomad_jobs``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

from leruli_queue.naming import hidden, image_in_nomad, pool_name
from leruli_queue.nomad.gateway import NomadGateway
from leruli_queue.nomad.names import PARENT_PREFIX

_PARTS = 8


@dataclass(frozen=True)
class ParentSpec:
    """All that a dispatch cannot vary: each combination needs its own parent job."""

    group_key_id: str
    hiding_key: bytes = field(repr=False)
    code: str
    version: str
    cores: int
    # The memory that Nomad is asked for (leruli_queue.jobs.resources.memory_steps).
    memory_mb: int
    # Of /dev/shm; None for Docker's default.
    shm_mb: int | None
    # See `of`.
    part: int
    # The digest of its nodes if these are a subset of the group's. Such a parent job never changes
    # its nodes.
    subset_digest: str | None = None

    @classmethod
    def of(
        cls,
        group_key_id: str,
        hiding_key: bytes,
        row: Mapping[str, Any],
        subset_digest: str | None = None,
    ) -> ParentSpec:
        """Return the parent job of a job.

        At each dispatch Nomad searches twice for the idempotency token, through all child jobs of
        the parent job that it still knows. So equal jobs are spread over a few parent jobs. A job
        always gets the same one.

        Parameters
        ----------
        row
            With job_id, code, version, cores, nomad_memory_mb and shm_mb of the job.
        subset_digest
            The digest of the nodes, if they are a subset of the group's.
        """
        return cls(
            group_key_id,
            hiding_key,
            row["code"],
            row["version"],
            row["cores"],
            row["nomad_memory_mb"],
            row["shm_mb"],
            0 if subset_digest else row["job_id"].int % _PARTS,
            subset_digest,
        )

    @property
    def id(self) -> str:
        """The parent job's id in Nomad: the group, and a keyed hash of all other fields."""
        digest = hidden(
            self.hiding_key,
            self.code,
            self.version,
            self.cores,
            self.memory_mb,
            self.shm_mb or 0,
            self.part,
            template(),
            *([self.subset_digest] if self.subset_digest else []),
        )
        return f"{PARENT_PREFIX}{self.group_key_id}-{digest}"


async def render_parent(
    gateway: NomadGateway, spec: ParentSpec, node_ids: Iterable[UUID]
) -> dict[str, Any]:
    """Return the parent job in Nomad's form, constrained to the given nodes."""
    cluster = gateway.cluster
    values: dict[str, str | int] = {
        "id": spec.id,
        "namespace": cluster.namespace,
        "region": cluster.region,
        "datacenter": cluster.datacenter,
        "node_pool": pool_name(spec.group_key_id),
        "node_ids": ",".join(sorted(str(node_id) for node_id in node_ids)),
        "image": image_in_nomad(spec.group_key_id, spec.hiding_key, spec.code, spec.version),
        "cores": spec.cores,
        "memory_mb": spec.memory_mb,
        "shm_mb": spec.shm_mb or 0,
    }
    return await gateway.parse_job(template(), _as_hcl(values))


@cache
def template() -> str:
    """Return the HCL of all parent jobs."""
    folder = files("leruli_queue.nomad") / "jobs"
    return (folder / "calculation.nomad.hcl").read_text(encoding="utf-8")


def _as_hcl(values: dict[str, str | int]) -> str:
    # A JSON string is a valid HCL string, except for these two, which start an interpolation. No
    # value that passed intake holds them.
    for value in values.values():
        if isinstance(value, str) and ("${" in value or "%{" in value):
            raise ValueError("a value for Nomad holds an interpolation")
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
