"""Bodies and answers of the calls that node agents make."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, StrictBool, StringConstraints, field_validator

from leruli_queue.access.secrets import redact
from leruli_queue.api.schemas.common import (
    A_NUMBER,
    INT32,
    MAX_WHOLE,
    PRINTABLE,
    Body,
    Count,
    Label,
    Measured,
    NoSecret,
    NoSecretIfGiven,
    Seconds,
    SecretText,
)
from leruli_queue.jobs.outcomes import Outcome
from leruli_queue.nodes.standing import Standing

# PKCS#10 in PEM, made with an elliptic key on the curve P-256 that stays on the node.
SigningRequest = Annotated[str, StringConstraints(max_length=10_000)]


class NodeJoin(Body):
    """A machine that wants to become a node."""

    computesecret: SecretText
    grouptoken: SecretText
    nodeid: UUID | None = Field(None, description="The id of an earlier join.")
    name: Label
    cores: Count
    memorymb: Count
    agentversion: Label = ""
    csr: SigningRequest


class NomadAccess(BaseModel):
    """How the node's Nomad client registers."""

    servers: list[str]
    region: str
    datacenter: str
    pool: str
    introtoken: str


class NodeCertificateAnswer(BaseModel):
    """A certificate for the node's Nomad client."""

    ca: str = Field(description="Certificate of the cluster's authority, PEM.")
    certificate: str = Field(description="For the key of the signing request, PEM.")
    validseconds: float = Field(description="For how long; ask for the next after a third of it.")


class NodeJoinAnswer(BaseModel):
    """What a machine needs to be a node."""

    nodeid: UUID
    nodetoken: str
    nomad: NomadAccess
    tls: NodeCertificateAnswer
    imageprefix: str
    imagetokens: list[str] = Field(
        description="Images are in the buckets `code-<token>` of these; the newest first."
    )
    reportseconds: float = Field(description="Time between two calls of node-report.")


class WithNodeToken(Body):
    """A body that is authorised by a node token."""

    nodetoken: SecretText


class NodeCertificate(WithNodeToken):
    """A node asks for its next certificate."""

    csr: SigningRequest


class HeldAttempt(Body):
    """An attempt that a node holds: it has leave to start it and has not ended it."""

    jobid: UUID
    attempt: Count


class NodeReport(WithNodeToken):
    """What a node shows of itself."""

    agentversion: Label = ""
    nomadversion: Label = ""
    images: list[Label] = Field(default=[], max_length=1000, description="`code:version` each.")
    diskfreemb: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    disktotalmb: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    attempts: list[HeldAttempt] = Field(default=[], max_length=10_000)
    imagekeyid: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{10}$")] | None = Field(
        None, description="Key id of the newest group token that the node finds images by."
    )
    trouble: Annotated[
        str | None,
        Field(
            max_length=500,
            pattern=PRINTABLE,
            description="What is wrong with the "
            "node itself, in a sentence; while it is there the node gets no jobs.",
        ),
        NoSecretIfGiven,
    ] = None
    unenforced: Annotated[
        list[Label] | None,
        Field(
            max_length=20,
            description="Limits of jobs that its Docker does not enforce: memory, CPU, processes.",
        ),
    ] = None


class NodeReportAnswer(BaseModel):
    """What a node has to know."""

    standing: Standing
    reason: str | None = Field(description="Why it may not start jobs, in a sentence.")
    drop: list[HeldAttempt] = Field(
        description="Of the attempts it holds: not its to run any more. End them, upload nothing."
    )
    cancel: list[HeldAttempt] = Field(
        description="Of the attempts it holds: to be cancelled. What is not running yet ends now; "
        "a command that runs is ended by Nomad."
    )
    imagetokens: list[str] = Field(
        description="After a rotation of the group token: as of node-join. Empty: nothing is new."
    )
    reportseconds: float = Field(description="Time until the next report.")


class NodeLeaveAnswer(BaseModel):
    """How far leaving is."""

    running: int = Field(description="Attempts that are still on the node.")


class OneAttempt(WithNodeToken):
    """A call about one attempt of a job."""

    jobid: UUID
    attempt: Count


class AttemptStart(OneAttempt):
    """A node asks for leave to start an attempt."""

    startkey: Annotated[str, NoSecret] = Field(
        pattern=r"^[A-Za-z0-9_-]{8,100}$", description="Random, one a start."
    )


class AttemptStartAnswer(BaseModel):
    """What a node has to know to run an attempt."""

    bucketid: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: int
    diskmb: int = Field(description="Limit of disk in MB. Older agents know none.")
    unmarkedoutput: bool = Field(
        description="An earlier attempt may have uploaded objects that are not marked with it."
    )
    image: str = Field(description="Name that the node's Docker has to know the image by.")


class AttemptUpload(OneAttempt):
    """A node asks for leave to upload, or renews it."""

    marks: StrictBool = Field(
        False, description="Whether the agent marks each object with the attempt that wrote it."
    )


class AttemptUploadAnswer(BaseModel):
    """Leave to upload."""

    silenceseconds: float = Field(
        description="A node that is silent for so long loses its attempts: write nothing when half "
        "of it has passed since this was asked."
    )


class AttemptEnd(OneAttempt):
    """The receipt."""

    outcome: Outcome
    exitcode: Annotated[int | None, Field(ge=-INT32, le=INT32), A_NUMBER] = None
    message: str | None = Field(None, max_length=2000)
    wallseconds: Seconds = None
    cpuseconds: Seconds = None
    peakmemorymb: Measured = None
    uploadedbytes: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    uploadedfiles: Measured = None

    @field_validator("message")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        # PostgreSQL's text takes every character but this one. And a receipt is made by a program,
        # which could not take a secret out: to refuse it would be to lose how the job ended.
        return redact(value.replace("\x00", "")) if value else value
