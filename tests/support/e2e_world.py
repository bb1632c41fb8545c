"""A whole Leruli Queue on this machine, used by its command lines."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from leruli_queue.embedded.plain_http import NO_AUTHORITIES

BIN = Path(sys.executable).parent
FINAL = ("completed", "failed", "cancelled")
# Command of a job that runs until the test ends it (StackOfTest.end_gated). So it runs as long as
# the test needs on any machine, and no longer.
GATED = "until [ -e gate ]; do sleep 0.1; done"


def read_exports(path: Path) -> dict[str, str]:
    """Return the variables of a file of ``export NAME=value`` lines."""
    words = (shlex.split(line)[1] for line in path.read_text().splitlines())
    return dict(word.split("=", 1) for word in words)


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@dataclass
class StackOfTest:
    """A stack made by ``leruli-queue up --detach`` in its own folder."""

    data: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()

    def up(self) -> None:
        self._leruli_queue("up", "--detach", "--data", str(self.data), *self.options)

    def down(self) -> None:
        self._leruli_queue("down", "--data", str(self.data))

    def _leruli_queue(self, *arguments: str) -> None:
        done = subprocess.run(
            [BIN / "leruli-queue", *arguments],
            env={**os.environ, **self.settings},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr

    @property
    def secrets(self) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads((self.data / "secrets.json").read_text())
        return kept

    @property
    def user(self) -> dict[str, str]:
        """The environment of a user: env.sh, and no other settings of ours."""
        kept = {name: os.environ[name] for name in os.environ if not name.startswith("LERULI")}
        return kept | read_exports(self.data / "env.sh") | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def pids(self) -> dict[str, int]:
        """Process ids of the running parts, by name."""
        noted = json.loads((self.data / "started.json").read_text())
        return {part: process[0] for part, process in noted.items()}

    def pid_of(self, part: str) -> int:
        return self.pids()[part]

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid_of(part), number)

    def leruli(
        self, folder: Path, *arguments: str, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["leruli", *arguments],
            cwd=folder,
            env=self.user | settings,
            executable=BIN / "leruli",
            capture_output=True,
            text=True,
            timeout=300,
        )

    def submit(
        self, folder: Path, command: str, *options: str, image: str = "leruli-test:1"
    ) -> None:
        code, version = image.split(":")
        done = self.leruli(folder, "task-submit", *options, code, version, command)
        assert done.returncode == 0, done.stderr

    def submit_unpublished(self, folder: Path, image: str) -> str:
        """Submit a job whose image the client would refuse; return its bucket."""
        bucket = str(uuid4())
        secret = self.user["LERULI_API_SECRET"]
        answer = self.call(
            "task-submit", secret=secret, bucketid=bucket, codeversion=image, memorymb=200
        )
        assert answer.status_code == 200, answer.text
        (folder / "leruli.job").write_text(answer.json())
        return bucket

    def call(self, path: str, **body: object) -> httpx.Response:
        return httpx.post(
            f"{self.user['LERULI_BASEURL']}/v22_1/{path}",
            json=body,
            timeout=30,
            trust_env=False,
            verify=NO_AUTHORITIES,
        )

    def status(self, folder: Path) -> tuple[str, str | None]:
        job_id = (folder / "leruli.job").read_text().strip()
        answer = self.call("task-status", secret=self.user["LERULI_API_SECRET"], jobid=job_id)
        assert answer.status_code == 200, answer.text
        return answer.json()["status"], answer.json()["reason"]

    def wait_for_state(self, folder: Path, *states: str, seconds: float = 90) -> str | None:
        """Wait until the job is in one of the states and return the reason."""
        wait_for(
            lambda: self.status(folder)[0] in states,
            seconds=seconds,
            what=f"the job is {' or '.join(states)}",
        )
        return self.status(folder)[1]

    def end(self, folder: Path, *, seconds: float = 120) -> tuple[str, str | None]:
        """Wait until the job has ended; return its state and reason."""
        self.wait_for_state(folder, *FINAL, seconds=seconds)
        return self.status(folder)

    def end_gated(self, folder: Path, *, node: str = "node") -> tuple[str, str | None]:
        """End a job whose command is GATED, in any attempt; return its state and reason.

        `node` is the folder of the node on which the job runs (see another_node).
        """
        job_id = (folder / "leruli.job").read_text().strip()

        def is_over() -> bool:
            state = self.status(folder)[0]
            if state == "running":
                [job] = self.fetch("SELECT attempt FROM jobs WHERE id = $1::uuid", job_id)
                gate = self.data / f"{node}/jobs/{job_id}x{job['attempt']}/rundir/gate"
                # Only once: after the end of the command the folder belongs to the agent.
                if not gate.exists():
                    # The folder is not there yet, or the agent is removing it.
                    with suppress(FileNotFoundError):
                        gate.touch()
            return state in FINAL

        wait_for(is_over, seconds=120, what="the job has ended")
        return self.status(folder)

    def get(self, folder: Path) -> None:
        done = self.leruli(folder, "task-get")
        assert done.returncode == 0, done.stderr

    def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Return rows of the database, for facts that no command shows."""

        async def fetch() -> list[asyncpg.Record]:
            connection = await self.connect()
            try:
                return await connection.fetch(sql, *arguments)
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def execute(self, script: str) -> None:
        """Change the database directly."""

        async def execute() -> None:
            connection = await self.connect()
            try:
                await connection.execute(script)
            finally:
                await connection.close()

        asyncio.run(execute())

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=str(self.data / "run" / "postgres"),
            user="leruli",
            password=self.secrets["postgres_password"],
            database="postgres",
        )

    @property
    def nomad_address(self) -> str:
        return read_exports(self.data / "admin.sh")["NOMAD_ADDR"]

    def nomad(self, path: str) -> Any:
        admin = read_exports(self.data / "admin.sh")
        context = ssl.create_default_context(cafile=admin["NOMAD_CACERT"])
        context.load_cert_chain(admin["NOMAD_CLIENT_CERT"], admin["NOMAD_CLIENT_KEY"])
        answer = httpx.get(
            f"{admin['NOMAD_ADDR']}{path}",
            headers={"X-Nomad-Token": admin["NOMAD_TOKEN"]},
            verify=context,
            timeout=30,
            trust_env=False,
        )
        answer.raise_for_status()
        return answer.json()


def forget_images(stack: StackOfTest) -> None:
    """Remove the images that a stack's jobs left in Docker."""
    prefix = f"leruli.local/{stack.secrets['group_token'].split('-')[1]}"
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [name for name in listed.stdout.split() if name.startswith(prefix)]
    if ours:
        subprocess.run(["docker", "rmi", *ours], check=True, capture_output=True)


@contextmanager
def another_node(stack: StackOfTest, name: str, **settings: str) -> Iterator[None]:
    """Run a second node of the stack's group on this machine, in a folder beside the first.

    `settings` are the settings of its agent that differ from the first node's.
    """
    told = Path(f"/proc/{stack.pid_of('node')}/environ").read_text().rstrip("\0").split("\0")
    environment = dict(variable.split("=", 1) for variable in told)
    environment |= {"LERULI_NODE_DIR": str(stack.data / name), "LERULI_NODE_NAME": name}
    environment |= settings
    with (stack.data / "logs" / f"{name}.log").open("ab") as log:
        agent = subprocess.Popen(
            [BIN / "leruli-node", "run"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(
            lambda: (
                stack.fetch("SELECT FROM nodes WHERE name = $1 AND alive_since IS NOT NULL", name)
                != []
            ),
            seconds=60,
            what=f"the node {name} is alive in Nomad",
        )
        yield
    finally:
        agent.terminate()
        agent.wait(180)


@contextmanager
def running_stack(settings: Mapping[str, str]) -> Iterator[StackOfTest]:
    """Run a stack in its own folder, with the tests' image published."""
    folder = Path(tempfile.mkdtemp(prefix="leruli-e2e-"))
    made = StackOfTest(folder / "data", settings)
    try:
        made.up()
        done = made.leruli(folder, "publish-code", "leruli-test", "1")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.down()
        # This fails if the stack left anything mounted there.
        shutil.rmtree(folder)
