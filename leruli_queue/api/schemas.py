"""Bodies and answers of the API. The field names are the wire contract of the published client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictBool,
    StringConstraints,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from leruli_queue.access.secrets import redact, refuse_secrets
from leruli_queue.jobs.bucket import Purpose
from leruli_queue.jobs.intake import CODE_VERSION_SCHEMA, NewJob, split_code_version
from leruli_queue.jobs.outcomes import Outcome
from leruli_queue.jobs.states import JobState
from leruli_queue.nodes.standing import Standing

# Longer than any secret of ours, so that the checksum's verdict reaches people who paste too much.
SecretText = Annotated[str, StringConstraints(max_length=200)]

# Everything that is stored or logged as it was sent, so that a secret in the wrong field is not.
_Kept = AfterValidator(refuse_secrets)

_KeptIfGiven = AfterValidator(lambda value: value and refuse_secrets(value))

# An S3 bucket name.
Bucket = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", max_length=63), _Kept
]
# Without what a terminal could take for a command (C0, C1), and without what turns a line around.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$"
# For people only.
Label = Annotated[str, StringConstraints(max_length=200, pattern=_PRINTABLE), _Kept]
# PKCS#10 in PEM, made with an elliptic key on the curve P-256 that stays on the node.
SigningRequest = Annotated[str, StringConstraints(max_length=10_000)]
_INT32 = 2**31 - 1
MAX_WHOLE = 2**53 - 1
"""The largest whole number that every reader of JSON takes exactly."""
# So that what is summed up of them stays a number.
_MOST_SECONDS = 1e12


def _not_a_guess(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("it has to be a number")
    return value


# After the limits in an Annotated: "4" and true are not taken for numbers, which JSON has.
A_NUMBER = BeforeValidator(_not_a_guess)
# Of attempts, cores, MB and the like: what PostgreSQL's integer holds.
Count = Annotated[int, Field(ge=1, le=_INT32), A_NUMBER]
_Measured = Annotated[int | None, Field(ge=0, le=_INT32), A_NUMBER]
_Seconds = Annotated[float | None, Field(ge=0, le=_MOST_SECONDS, allow_inf_nan=False), A_NUMBER]


class Body(BaseModel):
    """A request's body. Unknown fields are ignored: clients may be newer than the service."""

    # Never show a value in a message about it: it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)


def given(field: str, *, type_: str = "string", but_not: Sequence[str] = ()) -> dict[str, Any]:
    """Say in a JSON schema that a field is there, as one of several ways to fill a body."""
    properties = {field: {"type": type_}} | {other: {"type": "null"} for other in but_not}
    return {"required": [field], "properties": properties}


class WithSecret(Body):
    """A body that is authorised by an API secret."""

    secret: SecretText = Field(description="API secret of the user.")


class WithAdminSecret(Body):
    """A body that is authorised by an admin's API secret."""

    adminsecret: SecretText = Field(description="API secret of an admin.")


class WantedJob(Body):
    """A job, as the client describes it before there is a bucket."""

    name: Label = Field("default", description="Free text for people.")
    codeversion: Annotated[str, _Kept] = Field(
        max_length=200,
        description="Image to run in, `code:version`.",
        json_schema_extra=CODE_VERSION_SCHEMA,
    )
    cores: Count = 1
    memorymb: Annotated[int, Field(ge=16, le=_INT32), A_NUMBER] = Field(
        4000, description="Memory limit in MB."
    )
    timelimit: Count = Field(86400, description="Time limit in seconds.")
    diskmb: Annotated[int | None, Field(ge=16, le=_INT32), A_NUMBER] = Field(
        None, description="Limit of disk in MB; without it the service's default."
    )
    shmmb: Annotated[int | None, Field(ge=1, le=_INT32), A_NUMBER] = Field(
        None,
        description="Size of /dev/shm in MB, at most `memorymb`: what is in it counts as memory. "
        "Without it Docker's default, 64 MB.",
    )
    priority: Annotated[int, Field(ge=-1000, le=1000), A_NUMBER] = Field(
        0, description="Among the user's own jobs: those with a higher one go first."
    )

    @field_validator("codeversion")
    @classmethod
    def _names_an_image(cls, value: str) -> str:
        split_code_version(value)
        return value

    def new_job(self, bucket: str) -> NewJob:
        """Return what intake takes."""
        code, version = split_code_version(self.codeversion)
        return NewJob(
            bucket,
            self.name,
            code,
            version,
            self.cores,
            self.memorymb,
            self.timelimit,
            self.priority,
            self.diskmb,
            self.shmmb,
        )


class TaskSubmit(WantedJob, WithSecret):
    """A job, as the client asks for it."""

    bucketid: Bucket = Field(description="Bucket with run.tgz, made before this call.")


class _DescribedAs:
    """Has the schema describe what is parsed job by job, so that one does not stop the others."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self._model.__pydantic_core_schema__)


UnparsedTaskSubmit = Annotated[dict[str, Any], _DescribedAs(TaskSubmit)]
UnparsedWantedJob = Annotated[dict[str, Any], _DescribedAs(WantedJob)]


class BulkAnswer(BaseModel):
    """The answer to one job of a bulk submit."""

    status: int = Field(
        description="200 accepted, 403 secret, 409 the bucket has another job, 412 no compute "
        "secret, 422 why."
    )
    data: str = Field(description="The job id, or a sentence.")


class OneJob(WithSecret):
    """A call about one job."""

    jobid: str = Field(max_length=100)


class TaskBucket(OneJob):
    """Which bucket has a job's files, and what for it is asked."""

    purpose: Purpose = Field(
        Purpose.GET, description="For the group's audit, where the job is another user's."
    )


class BucketAnswer(BaseModel):
    """The bucket of a job."""

    bucketid: str


class StatusAnswer(BaseModel):
    """Where a job is."""

    status: JobState
    reason: str | None = Field(description="A sentence where the state does not say it all.")


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
            pattern=_PRINTABLE,
            description="What is wrong with the "
            "node itself, in a sentence; while it is there the node gets no jobs.",
        ),
        _KeptIfGiven,
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

    startkey: Annotated[str, _Kept] = Field(
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
    exitcode: Annotated[int | None, Field(ge=-_INT32, le=_INT32), A_NUMBER] = None
    message: str | None = Field(None, max_length=2000)
    wallseconds: _Seconds = None
    cpuseconds: _Seconds = None
    peakmemorymb: _Measured = None
    uploadedbytes: Annotated[int | None, Field(ge=0, le=MAX_WHOLE), A_NUMBER] = None
    uploadedfiles: _Measured = None

    @field_validator("message")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        # PostgreSQL's text takes every character but this one. And a receipt is made by a program,
        # which could not take a secret out: to refuse it would be to lose how the job ended.
        return redact(value.replace("\x00", "")) if value else value


class Nothing(BaseModel):
    """An empty object: done."""


class Health(BaseModel):
    """Whether the process is well, in a few words."""

    status: str


class Problem(BaseModel):
    """An error, in a sentence."""

    detail: str


class CancelProblem(Problem):
    """An error of task-cancel, with what the published client reads whatever the answer is."""

    status: str
    reason: str


Responses = dict[int | str, dict[str, Any]]

_PROBLEMS = {
    403: "The secret is malformed, unknown, revoked, or not enough.",
    413: "The body is too large.",
    422: "The body is not as described; the sentence says where.",
    429: "Too many wrong secrets were tried; try again after Retry-After seconds.",
    503: "The service is busy or a part of it is away; try again after Retry-After seconds.",
}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 1}}}


def problems(more: dict[int, str] | None = None, model: type[Problem] = Problem) -> Responses:
    """Describe the errors that every call has, and more of them by status."""
    return {
        status: {"model": model, "description": description}
        | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
        for status, description in sorted((_PROBLEMS | (more or {})).items())
    }
