"""Pages of jobs and states of jobs, as users ask for them, in a group of very many jobs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import orjson

from bench.crowd import add_crowd
from bench.figures import Better, Figure, Samples, percentile
from bench.load import Answer, UnexpectedAnswerError, request, send
from bench.registry import Options, measurement
from bench.stack import Stack, running_stack
from leruli_queue.jobs.states import JobState

_STATES = (JobState.RECEIVED, JobState.COMPLETED, JobState.RECEIVED, JobState.FAILED)
_PAGE = 100
_BULK = 1000
_WARMING = 5
_SEED = 6


@measurement("lists")
def lists(options: Options) -> Iterator[Figure]:
    """Make calls one after the other over one connection; a fixed seed draws depths and jobs."""
    with running_stack(options.folder / "lists", workers=1) as stack:
        draw = random.Random(_SEED)  # noqa: S311  # no secret
        some: list[UUID] = []
        count = 0
        for crowd in (options.crowd, 10 * options.crowd):
            some += add_crowd(stack, crowd - count, _STATES)
            count = crowd
            for what, target, path, body, check in _calls(stack, draw, some):
                samples = [
                    _p95_ms(
                        stack, path, [body() for _ in range(options.calls)], check, options.limit_s
                    )
                    for _ in range(options.repeat)
                ]
                where = f"{what}, {crowd:,} jobs in the group, p95"
                yield Figure(where, "ms", Better.LOWER, Samples(samples), target)


_Call = tuple[str, float, str, Callable[[], dict[str, object]], Callable[[bytes], bool]]


def _calls(stack: Stack, draw: random.Random, some: Sequence[UUID]) -> list[_Call]:
    """Return the calls: name, target (ms), path, maker of bodies, check of an answer."""
    secret: dict[str, object] = {"secret": stack.user_secret}
    # Skip the oldest jobs, so that a full page follows each of the others.
    deep = some[_PAGE:]
    return [
        (
            "task-list, a page of 100 at any depth",
            20,
            "task-list",
            lambda: secret | {"limit": _PAGE, "after": str(draw.choice(deep))},
            lambda answer: len(orjson.loads(answer)["jobs"]) == _PAGE,
        ),
        (
            "task-status of one job",
            5,
            "task-status",
            lambda: secret | {"jobid": str(draw.choice(some))},
            lambda answer: "status" in orjson.loads(answer),
        ),
        (
            "bulk/task-status of 1,000",
            100,
            "bulk/task-status",
            lambda: secret | {"jobids": [str(job_id) for job_id in draw.choices(some, k=_BULK)]},
            lambda answer: all(entry["status"] == 200 for entry in orjson.loads(answer)),
        ),
    ]


def _p95_ms(
    stack: Stack,
    path: str,
    bodies: Sequence[dict[str, object]],
    check: Callable[[bytes], bool],
    limit_s: float,
) -> float:
    requests = [request(f"/v22_1/{path}", orjson.dumps(body)) for body in bodies]
    # Warm-up: the first calls prepare the statements and read the pages of the database.
    send(stack.port, requests[:_WARMING], connections=1, limit_s=limit_s)
    answers: Sequence[Answer] = send(stack.port, requests, connections=1, limit_s=limit_s).answers
    for answer in answers:
        if not check(answer.body):
            raise UnexpectedAnswerError(f"{path} answered {answer.body[:300]!r}")
    return 1000 * percentile([answer.seconds for answer in answers], 0.95)
