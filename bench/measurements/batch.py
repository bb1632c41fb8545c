"""`leruli task-submit --batch` of many small folders, from start to exit of the client."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from minio import Minio

from bench.figures import Better, Figure, Samples
from bench.load import UnexpectedAnswerError
from bench.pinned import published_client
from bench.registry import Options, measurement
from bench.simulation.cpu import cpu_seconds
from bench.stack import Stack, running_stack
from leruli_queue.embedded import object_store
from leruli_queue.embedded.identities import service_url

_CODE, _VERSION = "psi4", "1.5"
# Bytes by file name: input, geometry and script of a typical folder.
_FILES = {"input.dat": 600, "geometry.xyz": 1200, "post.py": 2000}
_PEER = "published client"
_TIMES_AS_FAST = 3


@dataclass(frozen=True)
class _Sample:
    """Figures of one batch; the CPU times are ms per folder."""

    folders_a_second: float
    client_ms: float
    object_store_ms: float


@measurement("batch")
def batch(options: Options) -> Iterator[Figure]:
    """Run our client and the published one in turn, each time on new folders."""
    clients = {"": Path(sys.executable).with_name("leruli")}
    if options.published:
        clients[_PEER] = published_client()
    samples: dict[str, list[_Sample]] = {who: [] for who in clients}
    # Use one stack and delete nothing before the end: for minutes after many deletions, ext4
    # creates files slowly.
    with running_stack(options.folder / "batch", workers=1, s3=True) as stack:
        _publish_image(stack)
        for turn in range(options.repeat):
            for who in sorted(clients, reverse=bool(turn % 2)):
                folder = options.folder / f"folders-{turn}-{'peer' if who else 'ours'}"
                samples[who].append(_submit(stack, clients[who], folder, options))
    what = f"task-submit --batch of {options.folders:,} folders of 3 small files"
    yield _figure(
        *(what, "folders/s", samples, lambda one: one.folders_a_second),
        target=300,
        least={_PEER: _TIMES_AS_FAST},
    )
    yield _figure(f"{what}: CPU of the client", "ms each", samples, lambda one: one.client_ms)
    yield _figure(f"{what}: CPU of S3", "ms each", samples, lambda one: one.object_store_ms)


def _figure(
    what: str,
    unit: str,
    samples: Mapping[str, Sequence[_Sample]],
    value: Callable[[_Sample], float],
    target: float | None = None,
    least: Mapping[str, float] | None = None,
) -> Figure:
    ours, *theirs = (Samples([value(one) for one in taken], who) for who, taken in samples.items())
    better = Better.LOWER if target is None else Better.HIGHER
    return Figure(what, unit, better, ours, target, theirs, least or {})


def _publish_image(stack: Stack) -> None:
    """Upload a placeholder to the key at which our client first looks for the image."""
    state = stack.state
    store = Minio(
        object_store.url(state).removeprefix("http://"),
        access_key=state.object_store_access,
        secret_key=state.object_store_secret,
        secure=False,
    )
    store.fput_object(
        f"code-{state.group_token}", f"{_CODE}-{_VERSION}.tgz", str(Path(__file__).resolve())
    )


def _submit(stack: Stack, client: Path, folder: Path, options: Options) -> _Sample:
    count = options.folders
    _make_folders(folder, count)
    jobs = _jobs(stack)
    store = _cpu_s(stack)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    # The published client fails after all jobs were accepted. So count the accepted jobs only, not
    # the exit code.
    done = subprocess.run(
        [client, "task-submit", "--batch", "case-*", _CODE, _VERSION, "psi4", "input.dat"],
        cwd=folder,
        env=_environment(stack),
        capture_output=True,
        text=True,
        timeout=options.limit_s,
        check=False,
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    store = _cpu_s(stack) - store
    accepted = _jobs(stack) - jobs
    noted = sum(1 for _ in folder.glob("case-*/leruli.job"))
    if not accepted == noted == count:
        raise UnexpectedAnswerError(
            f"{count} folders were submitted. The service accepted {accepted} jobs, and {noted} "
            f"folders have a job id. The client wrote: {done.stderr[-500:]}"
        )
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Sample(count / seconds, 1000 * used / count, 1000 * store / count)


def _make_folders(folder: Path, count: int) -> None:
    for number in range(count):
        case = folder / f"case-{number:05}"
        case.mkdir(parents=True)
        for name, size in _FILES.items():
            line = f"{name} {number}\n"
            (case / name).write_text((line * (size // len(line) + 1))[:size], encoding="utf-8")
    # Without this, the measurement would include writing these files to the disk.
    os.sync()


def _environment(stack: Stack) -> Mapping[str, str]:
    settings = {
        "LERULI_BASEURL": service_url(stack.state),
        "LERULI_API_SECRET": stack.user_secret,
        "LERULI_S3_SERVER": object_store.url(stack.state),
        "LERULI_S3_ACCESS": stack.state.object_store_access,
        "LERULI_S3_SECRET": stack.state.object_store_secret,
    }
    return {**os.environ, **settings}


def _jobs(stack: Stack) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(stack.database_url)
        try:
            found: int = await connection.fetchval("SELECT count(*) FROM jobs")
        finally:
            await connection.close()
        return found

    return asyncio.run(count())


def _cpu_s(stack: Stack) -> float:
    """Return the CPU time that the object store has used so far, in seconds."""
    if stack.object_store is None or stack.object_store.process is None:
        return 0
    return cpu_seconds(stack.object_store.process.pid)
