"""What the agent knows about its attempts: one file each, the only source of truth here.

A file is written before anything else exists of an attempt and removed after all of it is gone,
so a job folder or container without such a file is a left-over.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from leruli_node.folders import write_file

log = logging.getLogger(__name__)

_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

# Phases, in order.
ASKING = "asking"  # attempt-start may or may not have been granted
GRANTED = "granted"  # the service gave leave; image and input are being brought
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


@dataclass(frozen=True)
class Lease:
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
    def parse(cls, answer: dict[str, Any]) -> Lease:
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
    lease: Lease | None = None
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
    # Whether a disk that the job writes to was full while the container ran, whoever filled it.
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
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> AttemptState:
        """The state in a file; ValueError when it is not one.

        Fields that a newer agent added are passed over.
        """
        try:
            values = json.loads(data)
            lease, decision = values.get("lease"), values.get("decision")
            values["lease"] = Lease(**_known(Lease, lease)) if lease else None
            values["decision"] = Decision(**_known(Decision, decision)) if decision else None
            return cls(**_known(cls, values))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not an attempt's state") from error


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


class AttemptStore:
    """All attempts of this node, in memory and on disk; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._states: dict[str, AttemptState] = {}
        self._work: dict[str, threading.Lock] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                state = AttemptState.from_bytes(path.read_bytes())
            except ValueError:
                # Written in one step, so this is a disk's fault: kept aside for a person.
                log.error("an attempt's state cannot be read", extra={"file": path.name})
                path.rename(path.with_suffix(".broken"))
                continue
            self._states[state.id.key] = state

    def get(self, attempt: AttemptId) -> AttemptState | None:
        """The state of an attempt, or None when this node knows nothing about it."""
        with self._lock:
            return self._states.get(attempt.key)

    def all(self) -> list[AttemptState]:
        """The states of all attempts that are not over here."""
        with self._lock:
            return list(self._states.values())

    def images(self) -> set[str]:
        """The images of all attempts, `code:version` each."""
        leases = [state.lease for state in self.all()]
        return {f"{lease.code}:{lease.version}" for lease in leases if lease is not None}

    def has(self, attempt_key: str) -> bool:
        """Whether `<job with dashes>x<attempt>` is known, if only by a file kept for a person."""
        with self._lock:
            broken = self._folder / f"{attempt_key.replace('-', '')}.broken"
            return attempt_key in self._states or broken.exists()

    def create(self, state: AttemptState) -> None:
        """Keep a new attempt; durable when this returns."""
        with self._lock:
            write_file(self._path(state.id), state.to_bytes())
            self._states[state.id.key] = state

    def update(
        self, attempt: AttemptId, durable: bool = True, sync: bool = True, **changes: Any
    ) -> AttemptState | None:
        """Change fields of a known attempt and return its new state; None if it is not known.

        With `durable` false the change is kept in memory until the next durable one; with `sync`
        false it outlives the agent, but not always the machine.
        """
        with self._lock:
            state = self._states.get(attempt.key)
            if state is None:
                return None
            state = replace(state, **changes)
            if durable:
                write_file(self._path(attempt), state.to_bytes(), sync=sync)
            self._states[attempt.key] = state
            return state

    def remove(self, attempt: AttemptId) -> None:
        """Forget an attempt; after a power cut it may be known again, and ends as a stale one."""
        with self._lock:
            self._path(attempt).unlink(missing_ok=True)
            self._states.pop(attempt.key, None)

    def work_lock(self, attempt: AttemptId) -> threading.Lock:
        """The lock of those who stage this attempt in or out: one at a time."""
        with self._lock:
            if len(self._work) > 10_000:
                for key in [k for k in self._work if k not in self._states]:
                    if not self._work[key].locked():
                        del self._work[key]
            return self._work.setdefault(attempt.key, threading.Lock())

    def _path(self, attempt: AttemptId) -> Path:
        return self._folder / f"{attempt.id}.json"


@dataclass(frozen=True)
class NodeFacts:
    """What outlives the process; no secret."""

    nodeid: str | None = None
    imageprefix: str | None = None
    nomad_port: int | None = None
    # See leruli_node.machine; empty in what an earlier release wrote.
    machine: str = ""
    cards: Sequence[str] = ()


def read_node(path: Path) -> NodeFacts:
    """The facts of an earlier run; empty ones when there was none."""
    try:
        return NodeFacts(**_known(NodeFacts, json.loads(path.read_bytes())))
    except FileNotFoundError:
        return NodeFacts()
    except (ValueError, TypeError, AttributeError):
        log.error("node.json cannot be read; joining as a new node")
        return NodeFacts()


def write_node(path: Path, facts: NodeFacts) -> None:
    """Keep the facts durably."""
    write_file(path, json.dumps(asdict(facts)).encode())


def boot_id() -> str:
    """The kernel's id of this boot: another one means that the machine was restarted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
