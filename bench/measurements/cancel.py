"""Cancel all queued jobs: ours by the filter of bulk/task-cancel, SLURM's by scancel."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from bench import slurm
from bench.crowd import add_crowd
from bench.figures import Better, Figure, Samples
from bench.load import UnexpectedAnswerError, request, send
from bench.registry import Options, measurement
from bench.stack import Stack, running_stack
from leruli_queue.jobs.states import JobState


@measurement("cancel")
def cancel(options: Options) -> Iterator[Figure]:
    """Cancel half of the crowd. Each sample has a new stack, as a job is cancelled only once."""
    count = options.crowd // 2
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(options.repeat):
        with running_stack(options.folder / f"cancel-{turn}", workers=1) as stack:
            add_crowd(stack, count, (JobState.RECEIVED,))
            ours.append(_cancel_all(stack, count, options.limit_s))
        if options.peers:
            theirs.append(
                slurm.cancel_seconds(options.folder / f"slurm-{turn}", count, options.limit_s)
            )
    peers = [Samples(theirs, "SLURM, scancel")] if theirs else []
    yield Figure(f"cancel {count:,} waiting jobs", "s", Better.LOWER, Samples(ours), 3, peers)


def _cancel_all(stack: Stack, count: int, limit_s: float) -> float:
    """Repeat the call until no job is left, as the client does; return the total time in s."""
    body = {"secret": stack.user_secret, "filter": {"states": [JobState.RECEIVED]}}
    post = request("/v22_1/bulk/task-cancel", orjson.dumps(body))
    seconds, cancelled = 0.0, 0
    while True:
        load = send(stack.port, [post], connections=1, limit_s=limit_s)
        seconds += load.seconds
        done = orjson.loads(load.answers[0].body)
        if not done["cancelled"]:
            break
        cancelled += done["cancelled"]
    if cancelled != count:
        raise UnexpectedAnswerError(f"The service cancelled {cancelled} of {count} jobs.")
    return seconds
