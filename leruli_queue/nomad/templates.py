"""Make the parent job of a kind of calculation from its HCL in ``nomad_jobs``."""

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
    """What a dispatch cannot vary, so that each combination needs a parent of its own."""

    group_key_id: str
    hiding_key: bytes = field(repr=False)
    code: str
    version: str
    cores: int
    # What Nomad is asked for (leruli_queue.jobs.sizes.memory_steps).
    memory_mb: int
    # Of /dev/shm; None for Docker's default.
    shm_mb: int | None
    # See `of`.
    part: int
    # The digest of its nodes where they are some of the group's: then it is of these for good.
    few_nodes: str | None = None

    @classmethod
    def of(
        cls,
        group_key_id: str,
        hiding_key: bytes,
        row: Mapping[str, Any],
        few_nodes: str | None = None,
    ) -> ParentSpec:
        """Return the parent of a job.

        `row` has its job_id, code, version, cores, nomad_memory_mb and shm_mb.

        What asks for the same is spread over a few parents, always the same one for a job: for each
        dispatch Nomad looks for its idempotency token through all that the parent dispatched and
        that is not forgotten yet, twice.
        """
        return cls(
            group_key_id,
            hiding_key,
            row["code"],
            row["version"],
            row["cores"],
            row["nomad_memory_mb"],
            row["shm_mb"],
            0 if few_nodes else row["job_id"].int % _PARTS,
            few_nodes,
        )

    @property
    def id(self) -> str:
        """The parent's id in Nomad: the group, and all that decides it in a form that hides it."""
        digest = hidden(
            self.hiding_key,
            self.code,
            self.version,
            self.cores,
            self.memory_mb,
            self.shm_mb or 0,
            self.part,
            template(),
            *([self.few_nodes] if self.few_nodes else []),
        )
        return f"{PARENT_PREFIX}{self.group_key_id}-{digest}"


async def render_parent(
    gateway: NomadGateway, spec: ParentSpec, node_ids: Iterable[UUID]
) -> dict[str, Any]:
    """Return the parent as a job that Nomad takes, fenced to the given nodes."""
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
    """Return the HCL that all parents are made of."""
    folder = files("leruli_queue.nomad") / "jobs"
    return (folder / "calculation.nomad.hcl").read_text(encoding="utf-8")


def _as_hcl(values: dict[str, str | int]) -> str:
    # A JSON string is an HCL string but for these two, which start an interpolation. No value that
    # passed intake holds them.
    for value in values.values():
        if isinstance(value, str) and ("${" in value or "%{" in value):
            raise ValueError("a value for Nomad holds an interpolation")
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
