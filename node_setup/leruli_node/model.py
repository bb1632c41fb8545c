"""An attempt: its id, its start grant, its state file, and the facts about its container."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from leruli_node.outcomes import Outcome

_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

# Fields that have another name in the state file. Agents of all versions read that file.
_IN_FILE = {"grant": "lease"}

# Phases, in order.
ASKING = "asking"  # attempt-start was sent; its answer is not known yet
GRANTED = "granted"  # the service granted the start; image and input are being fetched
STAGED = "staged"  # the container may start
DECIDED = "decided"  # the outcome is known; output is being uploaded


@dataclass(frozen=True)
class AttemptId:
    """One attempt of one job."""

    job: str
    attempt: int

    @classmethod
    def parse(cls, job: str, attempt: str) -> AttemptId:
        """Return the attempt of a job's uuid (with dashes) and an attempt number.

        Raises
        ------
        ValueError
            The two are no attempt id.
        """
        if not _JOB.match(job) or not attempt.isascii() or not attempt.isdigit():
            raise ValueError("not an attempt id")
        return cls(job, int(attempt))

    @property
    def key(self) -> str:
        """`<job with dashes>x<attempt>`: the container's label and the folder's name."""
        return f"{self.job}x{self.attempt}"

    @property
    def id(self) -> str:
        """`<job without dashes>x<attempt>`: the attempt's id everywhere else."""
        return f"{self.job.replace('-', '')}x{self.attempt}"

    @property
    def log_fields(self) -> dict[str, object]:
        """The fields of a log line that identify the attempt (`extra`)."""
        return {"job": self.job, "attempt": self.attempt}


@dataclass(frozen=True)
class StartGrant:
    """The answer to attempt-start: permission to start, with bucket, image and limits.

    `memorymb` and `diskmb` are in MB, `timelimit` is in seconds.
    """

    bucketid: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: float
    # The image's name for Nomad. Empty in the state file of an older agent.
    image: str = ""
    # None means no limit; a service of an older version sends none.
    diskmb: int | None = None
    # Whether an earlier attempt may have uploaded objects without a mark. None from an older
    # service.
    unmarkedoutput: bool | None = None
    # The id of the job's batch. None: it has none, or the service is older.
    batch: str | None = None
    # Whether its slot may run further attempts when it has ended. An older service says nothing.
    goes_on: bool = False

    @classmethod
    def parse(cls, answer: dict[str, Any]) -> StartGrant:
        """Return the grant in the service's answer.

        Raises
        ------
        KeyError, TypeError, ValueError
            The answer is no start grant.
        """
        return cls(
            bucketid=str(answer["bucketid"]),
            code=str(answer["code"]),
            version=str(answer["version"]),
            cores=int(answer["cores"]),
            memorymb=int(answer["memorymb"]),
            timelimit=float(answer["timelimit"]),
            image=str(answer["image"]),
            diskmb=int(answer["diskmb"]) if answer.get("diskmb") else None,
            unmarkedoutput=answer.get("unmarkedoutput"),
            batch=str(answer["batch"]) if answer.get("batch") else None,
            goes_on=bool(answer.get("goeson")),
        )


@dataclass(frozen=True)
class Decision:
    """How an attempt ended. `message` is one sentence for a person."""

    outcome: Outcome
    exitcode: int | None = None
    message: str | None = None
    wallseconds: float | None = None
    cpuseconds: float | None = None
    # Also None in a decision of an older agent; then the state's value counts.
    peakmemorymb: int | None = None
    peaknocachemb: int | None = None

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Decision:
        """Return the decision in a state file.

        Raises
        ------
        KeyError, TypeError, ValueError
            The values are no decision.
        """
        return cls(**{**known_fields(cls, values), "outcome": Outcome(values["outcome"])})


@dataclass(frozen=True)
class AttemptState:
    """All that this node knows about one attempt.

    Times are in seconds since 1970, except `started_boottime` (see clock.py).
    """

    job: str
    attempt: int
    alloc: str
    startkey: str
    phase: str
    boot_id: str
    grant: StartGrant | None = None
    problem_outcome: Outcome | None = None
    problem_message: str | None = None
    started_at: float | None = None
    started_boottime: float | None = None
    time_limit_at: float | None = None
    stopped_at: float | None = None
    peak_memory_mb: int | None = None
    # Of memory without page cache, among the samples.
    peak_no_cache_mb: int | None = None
    cpu_seconds: float | None = None
    # How long stage-in needed for the image and for the input, over all agents that tried it.
    image_seconds: float | None = None
    input_seconds: float | None = None
    # When its end was decided, by clock.py.
    decided_boottime: float | None = None
    # Whether the machine itself had almost no free memory while the container ran.
    machine_full: bool = False
    # When the job was seen to use more disk than its limit (seconds since 1970).
    disk_over_at: float | None = None
    # Whether a disk that the job writes to was full while the container ran. The cause may be this
    # job or another program.
    disk_full: bool = False
    peak_disk_mb: int | None = None
    ran: bool = False
    # Whether the agent that created this state marks its objects. False in the file of an older
    # agent.
    marks_objects: bool = False
    # The latest moment (by the store's clock) at which an agent without marks wrote for this job.
    unmarked_until: float | None = None
    # The run of the agent that is unpacking the input: the kernel's boot id and a random id.
    unpacking_run: str | None = None
    # How many runs of the agent ended while they unpacked this input.
    unpacking_deaths: int = 0
    # Whether there may be live objects of the attempt in its bucket.
    has_live_output: bool = False
    # The key of its slot's first attempt; None for a first attempt itself.
    slot: str | None = None
    # Whether Nomad ends the allocation, so that no further attempt runs in it.
    last: bool = False
    # Of a further attempt: differs between users, and whether its user lets it share a container.
    user: str = ""
    share_container: bool = False
    # Whether it is being given back to the service, so that its command must not begin any more.
    is_returning: bool = False
    # Whether it runs in a shared container, so that it has no container of its own.
    in_shared: bool = False
    decision: Decision | None = None

    @property
    def id(self) -> AttemptId:
        """The attempt's id."""
        return AttemptId(self.job, self.attempt)

    def to_bytes(self) -> bytes:
        """Return the content of the state file."""
        values = {_IN_FILE.get(name, name): value for name, value in vars(self).items()}
        # Not asdict, and no indent: both cost a millisecond for each of a job's notes.
        return json.dumps(values, default=vars).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> AttemptState:
        """Return the state in a file. Fields that a newer agent added are ignored.

        Raises
        ------
        ValueError
            The data is no state.
        """
        try:
            values = json.loads(data)
            grant, decision = values.get(_IN_FILE["grant"]), values.get("decision")
            problem = values.get("problem_outcome")
            values["grant"] = StartGrant(**known_fields(StartGrant, grant)) if grant else None
            values["decision"] = Decision.parse(decision) if decision else None
            values["problem_outcome"] = None if problem is None else Outcome(problem)
            return cls(**known_fields(cls, values))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not an attempt's state") from error


@dataclass(frozen=True)
class ContainerFacts:
    """Docker's description of a container that does not run. Times are in seconds since 1970."""

    exit_code: int
    oom_killed: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""


def known_fields(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values whose names are fields of this dataclass."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def boot_id() -> str:
    """Return the kernel's id of this boot. It changes when the machine is restarted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
