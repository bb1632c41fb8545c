"""What is known of an attempt, of its container and of how it ended."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

# Names of fields in the state file where they differ: agents of every version read it.
_IN_FILE = {"grant": "lease"}

# Phases, in order.
ASKING = "asking"  # attempt-start may or may not have been granted
GRANTED = "granted"  # the service granted the start; image and input are being brought
STAGED = "staged"  # the container may start
DECIDED = "decided"  # how it ended is settled; output is being uploaded


@dataclass(frozen=True)
class AttemptId:
    """One attempt of one job."""

    job: str
    attempt: int

    @classmethod
    def parse(cls, job: str, attempt: str) -> AttemptId:
        """From a job's uuid (with dashes) and a number; ValueError for anything else."""
        if not _JOB.match(job) or not attempt.isascii() or not attempt.isdigit():
            raise ValueError("not an attempt id")
        return cls(job, int(attempt))

    @property
    def key(self) -> str:
        """`<job with dashes>x<attempt>`: the label and the folder's name."""
        return f"{self.job}x{self.attempt}"

    @property
    def id(self) -> str:
        """`<job without dashes>x<attempt>`: the attempt's id everywhere else."""
        return f"{self.job.replace('-', '')}x{self.attempt}"

    @property
    def log_fields(self) -> dict[str, object]:
        """What a log line says of the attempt (`extra`)."""
        return {"job": self.job, "attempt": self.attempt}


@dataclass(frozen=True)
class StartGrant:
    """What attempt-start answered."""

    bucketid: str
    code: str
    version: str
    cores: int
    memorymb: int
    timelimit: float
    # The name under which Nomad runs the image; empty in the state file of an older agent.
    image: str = ""
    # None: no limit, from a service that knows none.
    diskmb: int | None = None
    # Whether an earlier attempt may have uploaded unmarked objects; None if the service is older.
    unmarkedoutput: bool | None = None

    @classmethod
    def parse(cls, answer: dict[str, Any]) -> StartGrant:
        """From the service's answer; KeyError, TypeError or ValueError when it is not one."""
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
        )


@dataclass(frozen=True)
class Decision:
    """How an attempt ended; `message` is one sentence for a person."""

    outcome: str
    exitcode: int | None = None
    message: str | None = None
    wallseconds: float | None = None
    cpuseconds: float | None = None
    # None also in a decision of an older agent, which has the state's.
    peakmemorymb: int | None = None


@dataclass(frozen=True)
class AttemptState:
    """Everything known about one attempt on this node.

    Times are seconds since 1970, but for `started_boottime`: see clock.py.
    """

    job: str
    attempt: int
    alloc: str
    startkey: str
    phase: str
    boot_id: str
    grant: StartGrant | None = None
    problem_outcome: str | None = None
    problem_message: str | None = None
    started_at: float | None = None
    started_boottime: float | None = None
    time_limit_at: float | None = None
    stopped_at: float | None = None
    peak_memory_mb: int | None = None
    cpu_seconds: float | None = None
    # Whether the machine itself had next to no memory left while the container ran.
    machine_full: bool = False
    # More disk than the limit was used; since 1970, as time_limit_at.
    disk_over_at: float | None = None
    # Whether a disk that the job writes to was full while the container ran. The job itself or
    # something else may have filled it.
    disk_full: bool = False
    peak_disk_mb: int | None = None
    ran: bool = False
    # Whether the agent that began it marks objects; false in the state file of an older one.
    marks_objects: bool = False
    # Agents that mark no objects wrote for the job until then at the latest (time of the store).
    unmarked_until: float | None = None
    # Which run of the agent unpacks the input just now: the kernel's boot id and one of our own.
    unpacking_run: str | None = None
    # How often a run of the agent ended in the middle of that.
    unpacking_deaths: int = 0
    decision: Decision | None = None

    @property
    def id(self) -> AttemptId:
        """The attempt that this is about."""
        return AttemptId(self.job, self.attempt)

    def to_bytes(self) -> bytes:
        """As it stands in the file."""
        values = {_IN_FILE.get(name, name): value for name, value in asdict(self).items()}
        return json.dumps(values, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> AttemptState:
        """The state in a file; ValueError when it is not one.

        Fields that a newer agent added are passed over.
        """
        try:
            values = json.loads(data)
            grant, decision = values.get(_IN_FILE["grant"]), values.get("decision")
            values["grant"] = StartGrant(**known_fields(StartGrant, grant)) if grant else None
            values["decision"] = Decision(**known_fields(Decision, decision)) if decision else None
            return cls(**known_fields(cls, values))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not an attempt's state") from error


@dataclass(frozen=True)
class ContainerFacts:
    """A container that is not running, as Docker describes it; times in seconds since 1970."""

    exit_code: int
    oom_killed: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""


def known_fields(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values of fields that this dataclass has."""
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def boot_id() -> str:
    """The kernel's id of this boot: another one means that the machine was restarted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
