"""`leruli task-submit --batch` of many small folders: all of it, as a user waits for it."""

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
from bench.published import published_client
from bench.registry import Options, measurement
from bench.simulation.cpu import cpu_seconds
from bench.stack import Stack, running_stack
from leruli_queue.embedded import object_store
from leruli_queue.embedded.identities import service_url

_CODE, _VERSION = "psi4", "1.5"
# A geometry, the input and a script: what such folders hold.
_FILES = {"input.dat": 600, "geometry.xyz": 1200, "post.py": 2000}
_PEER = "published client"
_TIMES_AS_FAST = 3


@dataclass(frozen=True)
class _Sample:
    """What one batch took, a folder."""

    folders_a_second: float
    client_ms: float
    object_store_ms: float


@measurement("batch")
def batch(options: Options) -> Iterator[Figure]:
    """Ours and the published client in turn, each with folders that nobody submitted before."""
    clients = {"": Path(sys.executable).with_name("leruli")}
    if options.published:
        clients[_PEER] = published_client()
    samples: dict[str, list[_Sample]] = {who: [] for who in clients}
    # One stack, and nothing is deleted before the end: ext4 is slow to make files for minutes after
    # many were deleted.
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
    """Put what stands for an image where our client looks for it first."""
    kept = stack.kept
    store = Minio(
        object_store.url(kept).removeprefix("http://"),
        access_key=kept.object_store_access,
        secret_key=kept.object_store_secret,
        secure=False,
    )
    store.fput_object(
        f"code-{kept.group_token}", f"{_CODE}-{_VERSION}.tgz", str(Path(__file__).resolve())
    )


def _submit(stack: Stack, client: Path, folder: Path, options: Options) -> _Sample:
    count = options.folders
    _make_folders(folder, count)
    jobs = _jobs(stack)
    store = _cpu_s(stack)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    # The published client fails after all jobs were accepted: only what was accepted counts.
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
            f"{accepted} jobs of {count} folders were accepted, {noted} noted: {done.stderr[-500:]}"
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
    # Writing them to the disk is not what is measured.
    os.sync()


def _environment(stack: Stack) -> Mapping[str, str]:
    settings = {
        "LERULI_BASEURL": service_url(stack.kept),
        "LERULI_API_SECRET": stack.user_secret,
        "LERULI_S3_SERVER": object_store.url(stack.kept),
        "LERULI_S3_ACCESS": stack.kept.object_store_access,
        "LERULI_S3_SECRET": stack.kept.object_store_secret,
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
    """Return the seconds of CPU that the object store has used so far."""
    if stack.object_store is None or stack.object_store.process is None:
        return 0
    return cpu_seconds(stack.object_store.process.pid)
