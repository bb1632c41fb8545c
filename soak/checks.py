"""What must hold when a run is over. Each check yields a sentence for everything that does not.

Pure functions of the evidence: tests/unit/soak shows each of them finding what it is for.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from leruli_queue.jobs.outcomes import NOT_BEGUN, PLATFORM_FAILURES, Outcome
from soak.evidence import AttemptRow, Evidence, JobRow, by_state
from soak.ledger import FINAL
from soak.plan import Job, Kind

Check = Callable[[Evidence], Iterator[str]]

# Of one check, so many sentences are shown.
_MOST = 5
# The service sums the wall times in another order.
_TOLERANCE = 1e-6
# main.sh ends a second start of one attempt with it, before the command.
_REFUSED = 122
_STAMP = re.compile(rb"^([0-9a-f-]{36} [0-9]+ [0-9a-f-]{36})", re.MULTILINE)
# What a node says of image or input is final only where a second node says the same.
_LOST = {outcome.value for outcome in PLATFORM_FAILURES | NOT_BEGUN} | {Outcome.STOPPED.value}


def findings(evidence: Evidence) -> list[str]:
    """Return what any check found; nothing: all is well."""
    found: list[str] = []
    for check in CHECKS:
        sentences = list(check(evidence))
        found += [f"seed {evidence.seed}: {sentence}" for sentence in islice(sentences, _MOST)]
        if len(sentences) > _MOST:
            found.append(f"seed {evidence.seed}: and {len(sentences) - _MOST} more like that")
    return found


def nothing_contradicted(evidence: Evidence) -> Iterator[str]:
    """The service never took back what it had told."""
    yield from evidence.contradictions


def all_parts_came_back(evidence: Evidence) -> Iterator[str]:
    """What was killed was started again and did its work."""
    for kill in evidence.kills:
        if kill.back_after_s is None:
            yield f"{kill.part}, killed after {kill.at_s:.0f} s, did not come back"


def every_bucket_is_one_job(evidence: Evidence) -> Iterator[str]:
    """What was accepted is there, once, and nothing else is."""
    known = set(evidence.ids.values())
    if len(known) != len(evidence.ids):
        yield f"{len(evidence.ids)} buckets were answered with {len(known)} different jobs"
    for job, job_id in evidence.ids.items():
        row = evidence.jobs.get(job_id)
        if row is None:
            yield f"job {job_id} was accepted and is not in the database"
        elif row.bucket != job.bucket:
            yield f"job {job_id} has another bucket than the one it was submitted with"
    for job_id in evidence.jobs.keys() - known:
        yield f"job {job_id} is in the database, but nobody was told its id"
    for bucket, count in Counter(row.bucket for row in evidence.jobs.values()).items():
        if count > 1:
            yield f"bucket {bucket} belongs to {count} jobs"


def every_job_ended(evidence: Evidence) -> Iterator[str]:
    """Every job is in one final state, and that is the one that its user was told last."""
    for row in evidence.jobs.values():
        if row.state not in FINAL or row.ended_at is None:
            yield f"job {row.id} has not ended: it is {row.state} ({row.reason})"
        told = evidence.told.get(row.id)
        if told in FINAL and told != row.state:
            yield f"job {row.id} is {row.state}, and its user was told {told}"


def counts_agree(evidence: Evidence) -> Iterator[str]:
    """Database, task-list, group-activity and group-usage tell of the same jobs."""
    states = {row.id: row.state for row in evidence.jobs.values()}
    listed = [entry for entries in evidence.listed.values() for entry in entries]
    for name, entries in (("task-list", listed), ("group-activity", evidence.activity)):
        if len(entries) != len(states) or dict(entries) != states:
            yield (
                f"{name} has {by_state(state for _, state in entries)}, "
                f"the database {by_state(states.values())}"
            )
    for user in {row.user_name for row in evidence.jobs.values()} | evidence.usage.keys():
        rows = [row for row in evidence.jobs.values() if row.user_name == user]
        there = {state: sum(row.state == state for row in rows) for state in sorted(FINAL)}
        there["jobs"] = len(rows)
        told = {name: int(evidence.usage.get(user, {}).get(name, 0)) for name in there}
        if there != told:
            yield f"group-usage has {told} for {user}, the database {there}"


def each_ended_as_it_should(evidence: Evidence) -> Iterator[str]:
    """A job's end is what its command and its user's wishes make of it."""
    for job, job_id in evidence.ids.items():
        row = evidence.jobs.get(job_id)
        if row is None or row.state not in FINAL:
            continue
        if row.state == "cancelled":
            if job_id not in evidence.cancelled:
                yield f"job {job_id} ({job.kind}) was cancelled, which nobody asked for"
        elif job.kind in (Kind.LONG, Kind.CROWD):
            yield f"job {job_id} ({job.kind}) should be cancelled, and is {_described(row)}"
        elif row.state != ("failed" if job.exit_code else "completed"):
            yield f"job {job_id} ({job.kind}) ended {_described(row)}"
        elif row.exit_code != job.exit_code:
            yield f"job {job_id} has exit code {row.exit_code}, its command {job.exit_code}"


def attempts_are_closed(evidence: Evidence) -> Iterator[str]:
    """One attempt made the job's end; each before it is over for a reason that is written down."""
    for row in evidence.jobs.values():
        attempts = evidence.attempts.get(row.id, [])
        if [attempt.number for attempt in attempts] != list(range(1, row.attempt + 1)):
            numbers = [attempt.number for attempt in attempts]
            yield f"job {row.id} is at attempt {row.attempt}, and has the attempts {numbers}"
            continue
        for attempt in attempts:
            yield from _open(row, attempt)
        decisive = [
            a for a in attempts if a.outcome == Outcome.ENDED and not _came_too_late(a, row)
        ]
        if len(decisive) > 1:
            numbers = [attempt.number for attempt in decisive]
            yield f"job {row.id} ended more than once, by the attempts {numbers}"
        if row.state in ("completed", "failed") and [a.number for a in decisive] != [row.attempt]:
            yield f"job {row.id} is {_described(row)} without the receipt of its last attempt"


def nothing_started_twice(evidence: Evidence) -> Iterator[str]:
    """Leave to start was given once an attempt, and Docker saw one run of each that had it."""
    keys = Counter(row.start_key for row in evidence.jobs.values() if row.start_key)
    for key, count in keys.items():
        if count > 1:
            yield f"start key {key} started {count} jobs"
    attempts = {a.key: a for rows in evidence.attempts.values() for a in rows}
    for key, seen in evidence.containers.items():
        attempt = attempts.get(key)
        if attempt is None or attempt.started_at is None:
            yield f"a container of attempt {key} was started, which had no leave to start"
        runs = seen.starts - seen.exit_codes.count(_REFUSED)
        if runs > 1:
            yield f"the command of attempt {key} was started {runs} times"
    for key, attempt in attempts.items():
        if attempt.outcome == Outcome.ENDED and key not in evidence.containers:
            yield f"attempt {key} has a receipt of its end, and Docker never saw its container"


def buckets_hold_one_run(evidence: Evidence) -> Iterator[str]:
    """A bucket holds all that the attempt wrote which made its job's end, and nothing else."""
    for job, job_id in evidence.ids.items():
        row = evidence.jobs.get(job_id)
        objects = evidence.buckets.get(job_id)
        if row is None or objects is None:
            continue
        stamps = {stamp for content in objects.values() for stamp in _stamps(content)}
        if len(stamps) > 1:
            yield f"the bucket of job {job_id} holds the output of {len(stamps)} runs"
            continue
        if stamps and not next(iter(stamps)).startswith(job_id):
            yield f"the bucket of job {job_id} holds the output of another job"
            continue
        attempt = evidence.attempts[job_id][-1]
        if row.state in ("completed", "failed"):
            yield from _not_whole(job, row, objects, stamps)
        if attempt.uploaded_files is not None and attempt.uploaded_files != len(objects):
            yield (
                f"the receipt of job {job_id} says {attempt.uploaded_files} files, its bucket has "
                f"{len(objects)}"
            )


def usage_is_the_sum(evidence: Evidence) -> Iterator[str]:
    """Core-hours are those of the attempts; what an admin cancelled is written down once."""
    for user, used in evidence.usage.items():
        seconds = math.fsum(
            row.cores * (attempt.wall_s or 0)
            for row in evidence.jobs.values()
            if row.user_name == user
            for attempt in evidence.attempts.get(row.id, [])
        )
        if not math.isclose(used["corehours"], seconds / 3600, rel_tol=_TOLERANCE, abs_tol=1e-9):
            yield (
                f"group-usage has {used['corehours']:.6f} core-hours for {user}, the attempts "
                f"{seconds / 3600:.6f}"
            )
    audited = Counter(evidence.audited_cancellations)
    for job_id in evidence.cancelled_by_admin:
        row = evidence.jobs.get(job_id)
        if row is not None and row.state == "cancelled" and audited[job_id] != 1:
            yield f"an admin cancelled job {job_id}, which is audited {audited[job_id]} times"
    for job_id in audited.keys() - evidence.cancelled_by_admin:
        yield f"the audit says that an admin cancelled job {job_id}, which nobody did"


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """Nomad, Docker and the node are done with all of it."""
    for what in evidence.alive_in_nomad:
        yield f"Nomad's {what}"
    for key in evidence.containers_left:
        yield f"the container of attempt {key} is left in Docker"
    for what in evidence.left_on_node:
        yield f"{what} is left on the node"
    for rows in evidence.attempts.values():
        for attempt in rows:
            if attempt.was_taken_back and attempt.nomad_job_id and attempt.stopped_at is None:
                yield f"attempt {attempt.key} was to be stopped in Nomad, and was not"


CHECKS: tuple[Check, ...] = (
    nothing_contradicted,
    all_parts_came_back,
    every_bucket_is_one_job,
    every_job_ended,
    counts_agree,
    each_ended_as_it_should,
    attempts_are_closed,
    nothing_started_twice,
    buckets_hold_one_run,
    usage_is_the_sum,
    nothing_is_left,
)


def _described(row: JobRow) -> str:
    return f"{row.state} ({row.reason})" if row.reason else row.state


def _open(row: JobRow, attempt: AttemptRow) -> Iterator[str]:
    if attempt.ended_at is None and not attempt.was_taken_back:
        yield f"attempt {attempt.key} is open: nothing says how it ended"
    elif attempt.number < row.attempt and not (
        attempt.outcome in _LOST or (attempt.was_taken_back and attempt.message)
    ):
        yield (
            f"attempt {attempt.key} is over ({attempt.outcome}), and its job ran again all the same"
        )


def _came_too_late(attempt: AttemptRow, row: JobRow) -> bool:
    """Tell whether it had been given up: then its receipt is only kept for the record."""
    return attempt.was_taken_back and attempt.number < row.attempt


def _stamps(content: bytes) -> set[str]:
    """Return the stamps in an object, whatever else stands in it."""
    return {match.decode() for match in _STAMP.findall(content)}


def _not_whole(job: Job, row: JobRow, objects: dict[str, bytes], stamps: set[str]) -> Iterator[str]:
    if not stamps:
        yield f"the bucket of job {row.id}, which {row.state}, holds no output"
        return
    [stamp] = stamps
    if stamp.split()[:2] != [row.id, str(row.attempt)]:
        yield f"the bucket of job {row.id} at attempt {row.attempt} holds the output of {stamp}"
        return
    expected = job.output(stamp, row.attempt)
    for name in expected.keys() - objects.keys():
        yield f"the bucket of job {row.id} lacks {name}"
    for name in objects.keys() - expected.keys():
        yield f"the bucket of job {row.id} holds {name}, which its command did not write"
    for name in expected.keys() & objects.keys():
        if expected[name] != objects[name]:
            yield f"{name} in the bucket of job {row.id} is not what its command wrote"
