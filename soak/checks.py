"""Checks of a run that is over. Each check yields a sentence for each fault.

They are pure functions of the evidence. tests/unit/soak plants a fault for each of them.
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

# Sentences shown per check.
_MOST = 5
# Relative; the service adds the wall times in another order.
_TOLERANCE = 1e-6
# Exit code with which main.sh ends a second start of an attempt, before the command.
_REFUSED = 122
_STAMP = re.compile(rb"^([0-9a-f-]{36} [0-9a-f-]{36})", re.MULTILINE)
# Outcomes after which a job may run again. A fault of image or input (NOT_BEGUN) is final only if a
# second node reports the same.
_LOST = {outcome.value for outcome in PLATFORM_FAILURES | NOT_BEGUN} | {Outcome.STOPPED.value}


def findings(evidence: Evidence) -> list[str]:
    """Return the sentences of all checks; an empty list means that no fault was found."""
    found: list[str] = []
    for check in CHECKS:
        sentences = list(check(evidence))
        found += [f"seed {evidence.seed}: {sentence}" for sentence in islice(sentences, _MOST)]
        if len(sentences) > _MOST:
            found.append(f"seed {evidence.seed}: and {len(sentences) - _MOST} more like that")
    return found


def nothing_contradicted(evidence: Evidence) -> Iterator[str]:
    """No answer of the service contradicts an earlier one."""
    yield from evidence.contradictions


def all_parts_came_back(evidence: Evidence) -> Iterator[str]:
    """Every killed part was started again and worked again."""
    for kill in evidence.kills:
        if kill.back_after_s is None:
            yield f"{kill.part}, killed after {kill.at_s:.0f} s, did not work again"


def every_bucket_is_one_job(evidence: Evidence) -> Iterator[str]:
    """Every accepted job is in the database exactly once, and no other job is."""
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
        yield f"job {job_id} is in the database, but no submit was answered with its id"
    for bucket, count in Counter(row.bucket for row in evidence.jobs.values()).items():
        if count > 1:
            yield f"bucket {bucket} belongs to {count} jobs"


def every_job_ended(evidence: Evidence) -> Iterator[str]:
    """Every job is in one final state, which is the last one in answers to its user."""
    for row in evidence.jobs.values():
        if row.state not in FINAL or row.ended_at is None:
            yield f"job {row.id} has not ended: it is {row.state} ({row.reason})"
        observed = evidence.observed.get(row.id)
        if observed in FINAL and observed != row.state:
            yield f"job {row.id} is {row.state}, but its user saw {observed}"


def counts_agree(evidence: Evidence) -> Iterator[str]:
    """Database, task-list, group-activity and group-usage have the same jobs."""
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
        stored = {state: sum(row.state == state for row in rows) for state in sorted(FINAL)}
        stored["jobs"] = len(rows)
        reported = {name: int(evidence.usage.get(user, {}).get(name, 0)) for name in stored}
        if stored != reported:
            yield f"group-usage has {reported} for {user}, the database {stored}"


def each_ended_as_it_should(evidence: Evidence) -> Iterator[str]:
    """Every job ended as its command, or a cancellation by its user, demands."""
    for job, job_id in evidence.ids.items():
        row = evidence.jobs.get(job_id)
        if row is None or row.state not in FINAL:
            continue
        if row.state == "cancelled":
            if job_id not in evidence.cancelled:
                yield f"job {job_id} ({job.kind}) was cancelled, but nobody asked for this"
        elif job.kind in (Kind.LONG, Kind.CROWD):
            yield f"job {job_id} ({job.kind}) should be cancelled, and is {_described(row)}"
        elif row.state != ("failed" if job.exit_code else "completed"):
            yield f"job {job_id} ({job.kind}) ended {_described(row)}"
        elif row.exit_code != job.exit_code:
            yield f"job {job_id} has exit code {row.exit_code}, its command {job.exit_code}"


def attempts_are_closed(evidence: Evidence) -> Iterator[str]:
    """One attempt ended the job. Each earlier attempt is over for a recorded reason."""
    for row in evidence.jobs.values():
        attempts = evidence.attempts.get(row.id, [])
        if [attempt.number for attempt in attempts] != list(range(1, row.attempt + 1)):
            numbers = [attempt.number for attempt in attempts]
            yield f"job {row.id} is at attempt {row.attempt}, and has the attempts {numbers}"
            continue
        for attempt in attempts:
            yield from _open(row, attempt)
        decisive = [a for a in attempts if a.outcome == Outcome.ENDED and not _is_late(a, row)]
        if len(decisive) > 1:
            numbers = [attempt.number for attempt in decisive]
            yield f"job {row.id} ended more than once, by the attempts {numbers}"
        if row.state in ("completed", "failed") and [a.number for a in decisive] != [row.attempt]:
            yield f"job {row.id} is {_described(row)} without the receipt of its last attempt"


def nothing_started_twice(evidence: Evidence) -> Iterator[str]:
    """Every attempt got at most one start grant, and Docker saw one run of each granted one.

    Of the jobs that share a container Docker sees one start. Their buckets show repeated runs.
    """
    by_key: dict[str, list[str]] = {}
    for row in evidence.jobs.values():
        if row.start_key:
            by_key.setdefault(row.start_key, []).append(row.id)
    for key, job_ids in by_key.items():
        # An agent that is started again asks for its slot under the same key again. It is granted
        # another job if the first one has ended.
        slots = {_slot_of(evidence, job_id) for job_id in job_ids}
        if len(job_ids) > 1 and (None in slots or len(slots) > 1):
            yield f"start key {key} started {len(job_ids)} jobs"
    attempts = {a.key: a for rows in evidence.attempts.values() for a in rows}
    for key, seen in evidence.containers.items():
        attempt = attempts.get(key)
        if attempt is None or attempt.started_at is None:
            yield f"a container of attempt {key} was started without a start grant"
        runs = seen.starts - seen.exit_codes.count(_REFUSED)
        if runs > 1:
            yield f"the command of attempt {key} was started {runs} times"
    shares = {job_id for job, job_id in evidence.ids.items() if job.shares}
    for key, attempt in attempts.items():
        if attempt.job_id in shares:
            continue
        if attempt.outcome == Outcome.ENDED and key not in evidence.containers:
            yield f"attempt {key} has a receipt of its end, and Docker never saw its container"


def buckets_hold_one_run(evidence: Evidence) -> Iterator[str]:
    """A bucket holds the whole output of the attempt that ended the job, and nothing else."""
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
            for writer in evidence.writers[job_id] - {attempt.key}:
                yield f"the bucket of job {job_id} has output of {writer}, at attempt {row.attempt}"
            yield from _not_whole(job, row, objects, stamps)
        if attempt.uploaded_files is not None and attempt.uploaded_files != len(objects):
            yield (
                f"the receipt of job {job_id} says {attempt.uploaded_files} files, its bucket has "
                f"{len(objects)}"
            )


def usage_is_the_sum(evidence: Evidence) -> Iterator[str]:
    """Core-hours are the sum over the attempts; each cancellation by an admin is audited once."""
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
        yield f"the audit says that an admin cancelled job {job_id}, but no admin did"


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """Nomad, Docker and the node hold nothing of any job."""
    for what in evidence.alive_in_nomad:
        yield f"Nomad's {what}"
    for key in evidence.containers_left:
        yield f"the container of attempt {key} is left in Docker"
    for what in evidence.left_on_node:
        yield f"{what} is left on the node"
    for rows in evidence.attempts.values():
        for attempt in rows:
            if attempt.stop_was_requested and attempt.nomad_job_id and attempt.stopped_at is None:
                yield f"attempt {attempt.key} should be stopped in Nomad, but is not"


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


def _slot_of(evidence: Evidence, job_id: str) -> str | None:
    """Return the first job of the slot of a job's last attempt; None if it was placed by Nomad."""
    attempts = evidence.attempts.get(job_id)
    return attempts[-1].slot_job if attempts else None


def _open(row: JobRow, attempt: AttemptRow) -> Iterator[str]:
    if attempt.ended_at is None and not attempt.stop_was_requested:
        yield f"attempt {attempt.key} is open: no outcome is recorded"
    elif attempt.number < row.attempt and not (
        attempt.outcome in _LOST
        or (attempt.stop_was_requested and attempt.message)
        or _was_handed_back(attempt)
    ):
        yield (f"attempt {attempt.key} ended its job ({attempt.outcome}), but the job ran again")


def _was_handed_back(attempt: AttemptRow) -> bool:
    """Return whether a slot was granted the attempt ahead, and did not begin it."""
    return attempt.slot_job is not None and attempt.outcome is None and bool(attempt.message)


def _is_late(attempt: AttemptRow, row: JobRow) -> bool:
    """Return whether the receipt came after the attempt was abandoned, so does not count."""
    return attempt.stop_was_requested and attempt.number < row.attempt


def _stamps(content: bytes) -> set[str]:
    """Return the stamps in an object, among any other content."""
    return {match.decode() for match in _STAMP.findall(content)}


def _not_whole(job: Job, row: JobRow, objects: dict[str, bytes], stamps: set[str]) -> Iterator[str]:
    if not stamps:
        yield f"the bucket of job {row.id}, which {row.state}, holds no output"
        return
    [stamp] = stamps
    expected = job.output(stamp)
    for name in expected.keys() - objects.keys():
        yield f"the bucket of job {row.id} lacks {name}"
    for name in objects.keys() - expected.keys():
        yield f"the bucket of job {row.id} holds {name}, which its command did not write"
    for name in expected.keys() & objects.keys():
        if expected[name] != objects[name]:
            yield f"{name} in the bucket of job {row.id} differs from the command's output"
