"""`serve` and `dispatch` as separate processes, with the settings of a test."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from leruli_queue.embedded.ports import free_ports
from leruli_queue.settings import PREFIX, Settings


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a process these settings."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, list):
            value = ",".join(value)
        if value is not None:
            found[f"{PREFIX}{name.upper()}"] = str(value)
    return found


@dataclass
class ProcessOfTest:
    """A running command of the service, and its log so far."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said.append(line.decode())

    async def until_said(self, sentence: str, *, times: int = 1) -> None:
        """Wait until ``times`` lines of its log have the sentence."""
        while sum(sentence in line for line in self.said) < times:
            assert self.process.returncode is None, "".join(self.said)
            await asyncio.sleep(0.02)

    async def end(self, *, within_s: float) -> int:
        """End it by TERM; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), within_s)


@asynccontextmanager
async def running(
    command: str, settings: Settings, *, open_files: tuple[int, int] | None = None
) -> AsyncIterator[ProcessOfTest]:
    """Run `leruli-queue <command>` inside the block.

    Parameters
    ----------
    open_files
        Soft and hard limit of its open files.
    """

    def limit_files() -> None:
        if open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, open_files)

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "leruli_queue", command),
        env=environment_of(settings),
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=limit_files,
    )
    made = ProcessOfTest(process)
    reading = asyncio.create_task(made.read())
    try:
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@dataclass
class ServeOfTest(ProcessOfTest):
    """`serve`, and a client of it."""

    client: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)
    port: int = 0

    async def until_listening(self) -> None:
        while True:
            assert self.process.returncode is None, "".join(self.said)
            try:
                await self.client.get("/livez")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return

    async def until_ready(self) -> None:
        while not (await self.client.get("/readyz")).is_success:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(
    settings: Settings, *, open_files: tuple[int, int] | None = None, **changes: object
) -> AsyncIterator[ServeOfTest]:
    """Run `serve` on a free port. When the block begins it listens, but may not be ready."""
    [port] = free_ports(1)
    ours = Settings(**(settings.model_dump(exclude_unset=True) | {"listen_port": port} | changes))
    async with (
        running("serve", ours, open_files=open_files) as made,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        serve = ServeOfTest(made.process, made.said, client, port)
        async with asyncio.timeout(60):
            await serve.until_listening()
        yield serve
