"""Bodies and answers of the calls about the nodes of a group."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leruli_queue.api.schemas.common import (
    A_NUMBER,
    Body,
    Label,
    SecretText,
    WithAdminSecret,
    given,
)
from leruli_queue.nodes.standing import Standing


class OfGroup(Body):
    """A body that is authorised by the group token, or by an admin's API secret."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [given("grouptoken"), given("adminsecret")]}
    )

    grouptoken: SecretText | None = None
    adminsecret: SecretText | None = None

    @model_validator(mode="after")
    def _has_a_secret(self) -> OfGroup:
        if self.grouptoken is None and self.adminsecret is None:
            raise ValueError("it needs grouptoken, or the adminsecret of an admin")
        return self


class GroupNodes(OfGroup):
    """Which nodes of a group to list."""

    limit: Annotated[int, Field(ge=1, le=500), A_NUMBER] = 500
    after: UUID | None = Field(None, description="The `next` of the page before.")


class ShownNode(BaseModel):
    """A node, as people see it."""

    nodeid: UUID
    name: str
    standing: Standing
    eligible: bool = Field(description="Whether it can get a job now.")
    reason: str | None = Field(description="If not, the reason in a sentence.")
    needsnewsecret: bool = Field(
        description="Whether its compute secret was rotated after it joined."
    )
    knowsimages: bool = Field(description="Whether it finds images by the valid group token.")
    cores: int
    coresfree: int
    memorymb: int
    memoryfreemb: int
    jobs: int = Field(description="Jobs that have started on it.")
    images: list[str] = Field(
        description="Images of the group on it, `code:version`; the first 100."
    )
    imagecount: int = Field(description="How many images of the group are on it.")
    diskfreemb: int | None
    disktotalmb: int | None
    agentversion: str
    nomadversion: str | None
    joinedat: datetime
    lastseenat: datetime
    heldsince: datetime | None = Field(
        description="Begin of its quarantine, because it failed several jobs in a row."
    )
    nextprobeat: datetime | None = Field(
        description="When it gets the next probe, a job to see whether it works again."
    )
    unenforced: list[str] | None = Field(
        description="Limits of jobs that its Docker does not enforce: memory, CPU, processes. "
        "Null: its agent does not report them."
    )


class GroupNodesAnswer(BaseModel):
    """The nodes of a group, by name."""

    nodes: list[ShownNode]
    next: UUID | None = Field(description="Send it as `after` for the next page; null: no more.")


class OneNode(WithAdminSecret):
    """An admin names a node."""

    node: Label = Field(description="Name or id of the node.")


class DrainNode(OneNode):
    """An admin drains a node."""

    deadline: Annotated[
        float | None,
        Field(
            ge=0,
            le=10**7,
            allow_inf_nan=False,
            description="Seconds after which its running jobs are stopped and requeued. Without "
            "it they run to their end.",
        ),
        A_NUMBER,
    ] = None


class ChangedNode(BaseModel):
    """The node that was changed."""

    nodeid: UUID
    name: str


class RemovedNode(ChangedNode):
    """The node that was removed."""

    requeued: int = Field(description="Jobs that ran on it and were requeued.")
