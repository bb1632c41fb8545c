"""What is going to be submitted: all of it follows from the seed.

Every command writes evidence of its run. A run gives itself a random name; its stamp (job, attempt,
run) stands in all that it writes. So a bucket shows whether what is in it comes from one run only.
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

# Of every hundred jobs that are drained. The rest ends well after a short while.
_FAILING, _LONG, _WRITING = 12, 5, 15
# The input of so many more jobs than are to be drained is stored: several are cancelled, and parts
# are killed until each had its turn.
_RESERVE = 200
_LONGEST_SLEEP_S = 2.0


class Kind(StrEnum):
    """What becomes of a job if nobody cancels it."""

    ENDS_WELL = "ends well"
    WRITES_MUCH = "writes much"
    FAILS = "fails"
    # Runs until it is cancelled.
    LONG = "long"
    # Waits behind all the others, and is not meant to be run: it has no input.
    CROWD = "crowd"


@dataclass(frozen=True)
class Job:
    """A job as its user knows it before it is submitted."""

    number: int
    user: int
    kind: Kind
    bucket: str
    exit_code: int = 0
    sleep_s: float = 0.0
    # Files in a folder, and lines of one more.
    parts: int = 0
    lines: int = 0

    @property
    def is_drained(self) -> bool:
        """Whether it may get its turn."""
        return self.kind is not Kind.CROWD

    @property
    def priority(self) -> int:
        """The crowd of a user stands behind the user's other jobs."""
        return 0 if self.is_drained else -1

    def command(self) -> str:
        """Return its line of bash."""
        return (
            'stamp="$NOMAD_META_job $NOMAD_META_attempt $(cat /proc/sys/kernel/random/uuid)"; '
            'echo "$stamp" >> runs; echo "$stamp" > attempt-$NOMAD_META_attempt; mkdir -p parts; '
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

    def output(self, stamp: str, attempt: int) -> dict[str, bytes]:
        """Return what is in its bucket, beside the input, when a run got to its end."""
        line = f"{stamp}\n".encode()
        return {
            **dict.fromkeys(
                ("runs", f"attempt-{attempt}", "end", "joblog.txt", "joberr.txt"), line
            ),
            **{f"parts/{n}": f"{stamp} {n}\n".encode() for n in range(1, self.parts + 1)},
            "lines": "".join(f"{n}\n" for n in range(1, self.lines + 1)).encode(),
        }


@dataclass(frozen=True)
class Post:
    """Jobs of one user that are submitted by one call, and how often that call is made."""

    jobs: tuple[Job, ...]
    # Seconds to wait before it.
    pause_s: float
    # Whether the first answer is not waited for: it is lost, as by a broken connection.
    hurried: bool
    # Whether it is made once more after it was answered.
    repeated: bool


def make_plan(seed: int, *, jobs: int, drain: int, users: int) -> list[Post]:
    """Return all posts in the order in which they are made, those with jobs to drain first."""
    chance = random.Random(seed)  # noqa: S311
    drained = min(jobs, drain + max(_RESERVE, drain // 2))
    planned = [_job(chance, number, number % users, number < drained) for number in range(jobs)]
    posts: list[Post] = []
    for some, largest in ((planned[:drained], 25), (planned[drained:], 400)):
        queues = [[job for job in some if job.user == user] for user in range(users)]
        while any(queues):
            # In turn, so that nobody's jobs are drained before another's are there.
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
    )


def _post(chance: random.Random, jobs: tuple[Job, ...]) -> Post:
    return Post(
        jobs,
        pause_s=chance.uniform(0, 0.4),
        hurried=chance.random() < 0.15,
        repeated=chance.random() < 0.2,
    )
