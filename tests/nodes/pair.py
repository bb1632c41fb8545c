"""Two nodes of one group, and batches of jobs that run on them."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from e2e_world import FINAL, StackOfTest, read_exports, wait_for
from hosts import Network
from machine import NODE_DIR, Machine

from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group

# More cores than this machine has: a core of a job is a promise to Nomad, and these jobs mostly
# wait.
CORES = 20
# Runs until the test opens its gate (Batch.open), and leaves a file with the attempt that wrote it.
GATED = 'until [ -e gate ]; do sleep 0.1; done; rm gate; touch "attempt-$NOMAD_META_attempt"'


class Pair:
    """The machines north and south, both nodes of the stack's group."""

    def __init__(self, net: Network, stack: StackOfTest) -> None:
        self.stack = stack
        self.north, self.south = (Machine(net.add(name), stack) for name in ("north", "south"))

    @property
    def both(self) -> tuple[Machine, Machine]:
        return self.north, self.south

    def make(self) -> None:
        """Make both by the README, side by side."""

        def follow(machine: Machine) -> None:
            machine.follow_readme(LERULI_NODE_CORES=str(CORES), LERULI_NODE_MEMORY_MB="20000")
            machine.wait_until_ready()

        with ThreadPoolExecutor() as threads:
            list(threads.map(follow, self.both))

    def close(self) -> None:
        for machine in self.both:
            machine.host.close()

    # --- what an admin does and sees

    @property
    def admin_secret(self) -> str:
        return read_exports(self.stack.data / "admin.sh")["LERULI_ADMIN_SECRET"]

    def shown(self, machine: Machine) -> dict[str, Any]:
        """The node as group-nodes shows it."""
        answer = self.stack.call("group-nodes", grouptoken=self.stack.secrets["group_token"])
        [node] = [n for n in answer.json()["nodes"] if n["name"] == machine.host.name]
        return dict(node)

    def wait_for_standing(self, machine: Machine, standing: str) -> None:
        """Wait until group-nodes shows the node with this standing."""
        wait_for(
            lambda: self.shown(machine)["standing"] == standing,
            seconds=60,
            what=f"{machine.host.name} is {standing}:\n{machine.said()}",
        )

    def drain(self, machine: Machine) -> None:
        """No new jobs for it."""
        self._administer("group-node-drain", machine)

    def resume(self, machine: Machine) -> None:
        """And jobs again, once Nomad would place them there."""
        self._administer("group-node-resume", machine)
        machine.wait_until_ready()

    @contextmanager
    def drained(self, machine: Machine) -> Iterator[None]:
        """Drain it within the block, so that new jobs go to the other machine."""
        self.drain(machine)
        yield
        self.resume(machine)

    def _administer(self, call: str, machine: Machine) -> None:
        answer = self.stack.call(call, adminsecret=self.admin_secret, node=machine.host.name)
        assert answer.status_code == 200, answer.text

    def other_group(self) -> tuple[str, str]:
        """Make another group of the service: its token and its compute secret."""

        async def make() -> tuple[str, str]:
            connection = await self.stack.connect()
            try:
                group = await create_group(connection, "others")
                return group.group_token, await rotate_compute_secret(connection, group.id)
            finally:
                await connection.close()

        return asyncio.run(make())

    def rotate(self) -> str:
        """Rotate the compute secret and give it to the stack, whose machines join with it."""
        answer = self.stack.call("group-rotate-compute-secret", adminsecret=self.admin_secret)
        assert answer.status_code == 200, answer.text
        secret = str(answer.json())
        file = self.stack.data / "secrets.json"
        file.write_text(json.dumps(self.stack.secrets | {"compute_secret": secret}))
        return secret


def held(machine: Machine) -> list[str]:
    """Return the attempts of which its agent has a state file: JOBxN, without dashes."""
    folder = machine.host.path(f"{NODE_DIR}/attempts")
    return sorted(path.stem for path in folder.glob("*.json"))


def phases(machine: Machine) -> list[str]:
    """Return the phase of each of them (docs/nodes/agent.md)."""
    folder = machine.host.path(f"{NODE_DIR}/attempts")
    return [json.loads(path.read_text())["phase"] for path in folder.glob("*.json")]


def containers(machine: Machine) -> list[str]:
    """The attempts whose containers run there."""
    shown = "docker ps --format '{{.Label \"leruli.attempt\"}}'"
    script = f"DOCKER_HOST=unix:///run/user/2013/docker.sock {shown}"
    return sorted(machine.host.shell(script, user="leruli").stdout.split())


@dataclass
class Batch:
    """Jobs that were submitted together, each with a number in input.dat."""

    stack: StackOfTest
    folder: Path
    count: int
    _opened: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def submit(
        cls, stack: StackOfTest, folder: Path, count: int, command: str, *options: str
    ) -> Batch:
        """Submit `count` jobs by one call of the client."""
        made = cls(stack, folder, count)
        for number in range(count):
            case = folder / f"case-{number:02}"
            case.mkdir(parents=True)
            (case / "input.dat").write_text(f"{number}\n")
        words = ["--batch", "case-*", "--memory", "64", *options, "leruli-test", "1", command]
        done = stack.leruli(folder, "task-submit", *words)
        assert done.returncode == 0, done.stderr
        return made

    @property
    def cases(self) -> list[Path]:
        return sorted(self.folder.glob("case-*"))

    @property
    def jobs(self) -> list[str]:
        return [(case / "leruli.job").read_text().strip() for case in self.cases]

    # --- while they run

    def rows(self) -> list[asyncpg.Record]:
        """Return the jobs, with the node on which each was started last."""
        return self.stack.fetch(
            "SELECT j.id::text, j.state, j.reason, j.attempt, n.name AS node FROM jobs j "
            "LEFT JOIN nodes n ON n.id = j.node_id WHERE j.id = ANY($1::uuid[]) ORDER BY j.id",
            self.jobs,
        )

    def states(self) -> Counter[str]:
        return Counter(row["state"] for row in self.rows())

    def wait_for(self, *states: str, count: int | None = None, seconds: float = 60) -> None:
        """Wait until this many of them (default: all) are in one of the states."""
        wanted = self.count if count is None else count
        try:
            wait_for(
                lambda: sum(self.states()[state] for state in states) >= wanted,
                seconds=seconds,
                what=f"{wanted} of {self.count} jobs are {' or '.join(states)}",
            )
        except AssertionError as error:
            rows = [dict(row) for row in self.rows()]
            log = (self.stack.data / "logs/dispatch.log").read_text().splitlines()[-20:]
            told = "\n".join(log)
            raise AssertionError(f"{error}; the jobs are {rows}; dispatcher:\n{told}") from None

    def running_on(self, machine: Machine) -> list[str]:
        """Return the ids of the jobs that run there."""
        name = machine.host.name
        return [r["id"] for r in self.rows() if r["state"] == "running" and r["node"] == name]

    def open(self, machine: Machine, jobs: Sequence[str] | None = None) -> None:
        """Open the gates of the jobs that have started on a machine."""
        for job in self.jobs if jobs is None else jobs:
            for rundir in machine.rundirs(job):
                # Once for each job: a gate file that comes after the command's end would be in its
                # output.
                if (machine.host.name, rundir.parent.name) not in self._opened:
                    (rundir / "gate").touch()
                    self._opened.add((machine.host.name, rundir.parent.name))

    def end(self, *machines: Machine, seconds: float = 90) -> None:
        """Open gates on these machines until all have ended."""

        def is_over() -> bool:
            for machine in machines:
                self.open(machine)
            states = self.states()
            return sum(states[state] for state in FINAL) == self.count

        wait_for(is_over, seconds=seconds, what="all have ended")

    # --- afterwards

    def starts(self) -> list[int]:
        """Return how many attempts of each job were started."""
        rows = self.stack.fetch(
            "SELECT count(started_at) AS starts FROM attempts WHERE job_id = ANY($1::uuid[]) "
            "GROUP BY job_id",
            self.jobs,
        )
        return [row["starts"] for row in rows]

    def fetch(self) -> list[dict[str, str]]:
        """Fetch the results of each job as a user does. Return them by file name."""
        done = self.stack.leruli(self.folder, "task-get", "--batch", "case-*", "--again")
        assert done.returncode == 0, done.stderr
        own = ("leruli.job", "leruli.bucket", "leruli.folder")
        ours = ("input.dat", *own, "joblog.txt", "joberr.txt")
        return [
            {path.name: path.read_text() for path in case.iterdir() if path.name not in ours}
            for case in self.cases
        ]

    def check_each_completed_once(self) -> None:
        """Check by database, receipts and the service's log that each job ended once."""
        found = self.stack.fetch(
            "SELECT j.id::text, j.state, j.exit_code, j.attempt, j.node_id, "
            "array_agg(a.number ORDER BY a.number) AS numbers, "
            "array_agg(a.number) FILTER (WHERE a.outcome = 'ended') AS ended, "
            "array_agg(a.node_id) FILTER (WHERE a.outcome = 'ended') AS ended_on "
            "FROM jobs j JOIN attempts a ON a.job_id = j.id "
            "WHERE j.id = ANY($1::uuid[]) GROUP BY j.id",
            self.jobs,
        )
        assert len(found) == self.count
        for row in found:
            assert (row["state"], row["exit_code"]) == ("completed", 0), dict(row)
            assert row["numbers"] == list(range(1, row["attempt"] + 1)), dict(row)
            # One receipt of a command's end: that of the last attempt, from the node it ran on.
            assert row["ended"] == [row["attempt"]], dict(row)
            assert row["ended_on"] == [row["node_id"]], dict(row)
        told = re.findall(
            r'^(?=.*"attempt ended")(?=.*"completed").*"job": "([^"]+)"',
            (self.stack.data / "logs/serve.log").read_text(),
            re.MULTILINE,
        )
        ends = Counter(told)
        assert [ends[job] for job in self.jobs] == [1] * self.count
