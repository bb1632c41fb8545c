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

# PKCS#10 in PEM, signed with a P-256 key that stays on the node.
SigningRequest = Annotated[str, StringConstraints(max_length=10_000)]


class NodeJoin(Body):
    """A machine asks to become a node."""

    computesecret: SecretText
    grouptoken: SecretText
    nodeid: UUID | None = Field(None, description="The id of an earlier join.")
    name: Label
    cores: Count
    memorymb: Count
    agentversion: Label = ""
    csr: SigningRequest


class NomadAccess(BaseModel):
    """What the node's Nomad client needs to register."""

    servers: list[str]
    region: str
    datacenter: str
    pool: str
    introtoken: str


class NodeCertificateAnswer(BaseModel):
    """A certificate for the node's Nomad client."""

    ca: str = Field(description="Certificate of the cluster's authority, PEM.")
    certificate: str = Field(description="For the key of the signing request, PEM.")
    validseconds: float = Field(description="Its validity; ask for the next after a third of it.")


class NodeJoinAnswer(BaseModel):
    """All that a machine needs to be a node."""

    nodeid: UUID
    nodetoken: str
    nomad: NomadAccess
    tls: NodeCertificateAnswer
    imageprefix: str
    imagetokens: list[str] = Field(
        description="Images are in the buckets `code-<token>` of these tokens; the newest first."
    )
    reportseconds: float = Field(description="Time between two calls of node-report.")


class WithNodeToken(Body):
    """A body that is authorised by a node token."""

    nodetoken: SecretText


class NodeCertificate(WithNodeToken):
    """A node asks for its next certificate."""

    csr: SigningRequest


class HeldAttempt(Body):
    """An attempt that a node holds: it has the start grant and has sent no receipt."""

    jobid: UUID
    attempt: Count


class NodeReport(WithNodeToken):
    """A node's report about itself."""

    agentversion: Label = ""
    nomadversion: Label = ""
    images: list[Label] = Field(default=[], max_length=1000, description="Each as `code:version`.")
    diskfreemb: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    disktotalmb: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    attempts: list[HeldAttempt] = Field(default=[], max_length=10_000)
    imagekeyid: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{10}$")] | None = Field(
        None, description="Key id of the newest group token by which the node finds images."
    )
    trouble: Annotated[
        str | None,
        Field(
            max_length=500,
            pattern=PRINTABLE,
            description="A fault of the node itself, in a sentence. Meanwhile the node gets no "
            "jobs.",
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
    known: Annotated[str | None, Field(pattern=r"^[0-9a-f]{16}$")] = Field(
        None,
        description="`said` of the last answer. While the service has nothing else to say, it "
        "holds the answer back, for `reportseconds` at most.",
    )


class NodeReportAnswer(BaseModel):
    """The answer to a node's report."""

    standing: Standing
    reason: str | None = Field(description="Why the node may not start jobs, in a sentence.")
    drop: list[HeldAttempt] = Field(
        description="Held attempts that the node may not run any more. End them, upload nothing."
    )
    cancel: list[HeldAttempt] = Field(
        description="Held attempts to cancel. End those that do not run yet; Nomad ends commands "
        "that run."
    )
    follow: list[HeldAttempt] = Field(
        default=[],
        description="Started attempts on the node whose output is followed. Send what is new of it "
        "to the job's bucket. Older agents ignore the field.",
    )
    imagetokens: list[str] = Field(
        description="As in the answer of node-join, after a rotation of the group token. Empty: "
        "nothing has changed."
    )
    reportseconds: float = Field(description="Time until the next report.")
    said: str = Field(
        "",
        description="Names what this answer says. The next report with it in `known` may follow at "
        "once: it waits at the service.",
    )


class NodeLeaveAnswer(BaseModel):
    """How far the node is with leaving."""

    running: int = Field(description="Attempts that are still on the node.")


class OneAttempt(WithNodeToken):
    """A call about one attempt of a job."""

    jobid: UUID
    attempt: Count


class AttemptStart(OneAttempt):
    """A node asks for the start grant of an attempt."""

    startkey: Annotated[str, NoSecret] = Field(
        pattern=r"^[A-Za-z0-9_-]{8,100}$", description="Random, a new one for each start."
    )
    marks: StrictBool = Field(
        False,
        description="Whether the agent marks each object with the attempt that wrote it. Then the "
        "start grant is the first upload lease too.",
    )


class AttemptStartAnswer(BaseModel):
    """The start grant: all that a node needs to run an attempt."""

    bucketid: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: int
    diskmb: int = Field(description="Disk limit in MB. Older agents ignore it.")
    unmarkedoutput: bool = Field(
        description="An earlier attempt may have uploaded objects without an attempt's mark."
    )
    image: str = Field(description="Name under which the node's Docker must have the image.")
    batch: UUID | None = Field(description="The job's batch. Older agents ignore it.")
    goeson: bool = Field(
        description="Whether the slot may run further attempts after this one: ask slot-next."
    )
    silenceseconds: float | None = Field(
        description="The grant is an upload lease, as of attempt-upload. Null: it is none."
    )


class AttemptUpload(OneAttempt):
    """A node asks for the upload lease of an attempt, or renews it."""

    marks: StrictBool = Field(
        False, description="Whether the agent marks each object with the attempt that wrote it."
    )


class AttemptUploadAnswer(BaseModel):
    """The upload lease."""

    silenceseconds: float = Field(
        description="A node that is silent for this time loses its attempts. So write nothing "
        "after half of it has passed since this request was sent."
    )


class Receipted(BaseModel):
    """How an attempt ended."""

    outcome: Outcome
    exitcode: Annotated[int | None, Field(ge=-INT32, le=INT32), A_NUMBER] = None
    message: str | None = Field(None, max_length=2000)
    wallseconds: Seconds = None
    cpuseconds: Seconds = None
    peakmemorymb: Measured = None
    uploadedbytes: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    uploadedfiles: Measured = None
    peaknocachemb: Measured = Field(
        None, description="Peak of memory without page cache. Older agents send none of these five."
    )
    diskmb: Measured = Field(None, description="Disk that it used: its files and its container.")
    imageseconds: Seconds = Field(None, description="Until the image was on the node.")
    inputseconds: Seconds = Field(None, description="From then until the input was unpacked.")
    outputseconds: Seconds = Field(None, description="From the command's end to this receipt.")

    @field_validator("message")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        # PostgreSQL's text accepts every character but NUL. A secret is redacted and not refused:
        # the agent could not remove it, and a refused receipt would lose how the job ended.
        return redact(value.replace("\x00", "")) if value else value


class AttemptEnd(OneAttempt, Receipted):
    """The receipt of an attempt."""
