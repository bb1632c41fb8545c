"""All jobs and posts of a run; they follow from the seed.

Every run of a command makes a random name and writes its stamp (job, run) into all of its files. So
a bucket shows whether all of its content comes from one run.
"""

from __future__ import annotations

import io
import random
import tarfile
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

IMAGE = "leruli-test:1"
INPUT = "run.tgz"
LONG_S = 900

# Percent of the jobs to be drained. The others end well after a short time.
_FAILING, _LONG, _WRITING = 12, 5, 15
# Least number of additional jobs with an input. They are needed as some jobs are cancelled, and as
# the drain goes on until each part was killed often enough.
_RESERVE = 200
_LONGEST_SLEEP_S = 2.0
# Percent of all jobs that run in shared containers.
_SHARED, _SHARED_OF_SHORT = 20, 50
# The same as above, for a run of short jobs.
_SHORT_FAILING, _SHORT_LONG = 5, 1
_SHORT_SLEEP_S = 0.1


class Kind(StrEnum):
    """How a job ends if nobody cancels it."""

    ENDS_WELL = "ends well"
    WRITES_MUCH = "writes much"
    FAILS = "fails"
    # Runs until it is cancelled.
    LONG = "long"
    # Stays queued behind all other jobs. It has no input, so it must not run.
    CROWD = "crowd"


@dataclass(frozen=True)
class Job:
    """A job, as its user knows it before the submit."""

    number: int
    user: int
    kind: Kind
    bucket: str
    exit_code: int = 0
    sleep_s: float = 0.0
    # Number of files in the folder `parts`, and of lines in the file `lines`.
    parts: int = 0
    lines: int = 0
    # Whether it asks for a shared container.
    shares: bool = False

    @property
    def is_drained(self) -> bool:
        """Whether it has an input, so that it may run."""
        return self.kind is not Kind.CROWD

    @property
    def priority(self) -> int:
        """Priority: the crowd of a user comes after the user's other jobs."""
        return 0 if self.is_drained else -1

    def command(self) -> str:
        """Return its command, a line of bash.

        The file `left` has all that another job left in the container. LOOK_IN and LEAVE_S are for
        tests of this line outside a container.
        """
        leave = (
            'for folder in ${LOOK_IN:-/tmp /var/tmp /dev/shm}; do echo > "$folder/$stamp"; done; '
            "(exec -a left-by-a-job sleep ${LEAVE_S:-900}) > /dev/null 2>&1 & "
        )
        return (
            "{ find ${LOOK_IN:-/tmp /var/tmp /dev/shm} -mindepth 1; pgrep -af left-by-a-job; }"
            " > left; "
            'stamp="$LERULI_JOBID $(cat /proc/sys/kernel/random/uuid)"; '
            f"{leave if self.shares else ''}"
            'echo "$stamp" >> runs; echo "$stamp" > "run-${stamp##* }"; mkdir -p parts; '
            f'for n in $(seq 1 {self.parts}); do echo "$stamp $n" > parts/$n; done; '
            f"sleep {LONG_S if self.kind is Kind.LONG else f'{self.sleep_s:.2f}'}; "
            f'seq 1 {self.lines} > lines; echo "$stamp" > end; echo "$stamp"; '
            f'echo "$stamp" >&2; exit {self.exit_code}'
        )

    def input(self) -> bytes:
        """Return the archive that the node unpacks."""
        script = f"#!/bin/bash\n{self.command()}\n".encode()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
            head = tarfile.TarInfo("./run.sh")
            head.size, head.mode = len(script), 0o755
            tar.addfile(head, io.BytesIO(script))
        return archive.getvalue()

    def output(self, stamp: str) -> dict[str, bytes]:
        """Return the objects in its bucket after a complete run, without the input, by name."""
        line = f"{stamp}\n".encode()
        return {
            **dict.fromkeys(
                ("runs", f"run-{stamp.split()[-1]}", "end", "joblog.txt", "joberr.txt"), line
            ),
            "left": b"",
            **{f"parts/{n}": f"{stamp} {n}\n".encode() for n in range(1, self.parts + 1)},
            "lines": "".join(f"{n}\n" for n in range(1, self.lines + 1)).encode(),
        }


@dataclass(frozen=True)
class Post:
    """A call that submits jobs of one user, and how it is made."""

    jobs: tuple[Job, ...]
    # Pause before the call.
    pause_s: float
    # Whether the first answer is lost, as by a broken connection.
    hurried: bool
    # Whether the call is made again after its answer.
    repeated: bool


def make_plan(seed: int, *, jobs: int, drain: int, users: int, short: bool = False) -> list[Post]:
    """Return all posts in order, those with jobs to be drained first.

    With ``short`` most jobs take some milliseconds, and half of them share containers.
    """
    chance = random.Random(seed)  # noqa: S311
    drained = min(jobs, drain + max(_RESERVE, drain // 2))
    make = _short_job if short else _job
    planned = [make(chance, number, number % users, number < drained) for number in range(jobs)]
    posts: list[Post] = []
    for some, largest in ((planned[:drained], 25), (planned[drained:], 400)):
        queues = [[job for job in some if job.user == user] for user in range(users)]
        while any(queues):
            # The users take turns, so no user's jobs are drained before another's are submitted.
            for queue in queues:
                count = chance.randint(1, largest)
                if queue:
                    posts.append(_post(chance, tuple(queue[:count])))
                    del queue[:count]
    return posts


def _job(chance: random.Random, number: int, user: int, drained: bool) -> Job:
    bucket = str(UUID(int=chance.getrandbits(128), version=4))
    if not drained:
        return Job(number, user, Kind.CROWD, bucket)
    percent = chance.randrange(100)
    kind, exit_code = Kind.ENDS_WELL, 0
    if percent < _FAILING:
        kind, exit_code = Kind.FAILS, chance.choice((1, 3, 77))
    elif percent < _FAILING + _LONG:
        kind = Kind.LONG
    elif percent < _FAILING + _LONG + _WRITING:
        kind = Kind.WRITES_MUCH
    much = kind is Kind.WRITES_MUCH
    return Job(
        *(number, user, kind, bucket, exit_code),
        sleep_s=chance.uniform(0, _LONGEST_SLEEP_S),
        parts=chance.randint(8, 30) if much else 1,
        lines=chance.randint(50_000, 300_000) if much else 10,
        shares=chance.randrange(100) < _SHARED,
    )


def _short_job(chance: random.Random, number: int, user: int, drained: bool) -> Job:
    bucket = str(UUID(int=chance.getrandbits(128), version=4))
    if not drained:
        return Job(number, user, Kind.CROWD, bucket)
    percent = chance.randrange(100)
    kind, exit_code = Kind.ENDS_WELL, 0
    if percent < _SHORT_FAILING:
        kind, exit_code = Kind.FAILS, chance.choice((1, 3, 77))
    elif percent < _SHORT_FAILING + _SHORT_LONG:
        kind = Kind.LONG
    return Job(
        *(number, user, kind, bucket, exit_code),
        sleep_s=min(chance.expovariate(1 / _SHORT_SLEEP_S), _LONGEST_SLEEP_S),
        parts=1,
        lines=10,
        shares=chance.randrange(100) < _SHARED_OF_SHORT,
    )


def _post(chance: random.Random, jobs: tuple[Job, ...]) -> Post:
    return Post(
        jobs,
        pause_s=chance.uniform(0, 0.4),
        hurried=chance.random() < 0.15,
        repeated=chance.random() < 0.2,
    )
