"""Live output: real agent, Docker and object store. A FAKE of the service names the followed."""

from __future__ import annotations

import contextlib
import time

import pytest
from minio.error import S3Error
from node_rig import Job, Rig, next_attempt, wait_for
from node_slots import begin, shared_job

MARK = "x-amz-meta-leruli-attempt"
SOON_S = 8.0
# Writes a line to each log every 0.1 s until the file `stop` is there.
LINES = (
    "i=0; until [ -e stop ]; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.1; done; "
    "echo last"
)


def listen(rig: Rig, period_s: float = 60.0) -> None:
    """Start the agent again, at a service that lets its reports wait."""
    rig.stop()
    rig.service.holds_reports = True
    rig.service.report_seconds = period_s
    rig.start()


@pytest.fixture
def live_rig(rig: Rig) -> Rig:
    listen(rig)
    return rig


def begin_job(rig: Rig, command: str = LINES, **more: object) -> Job:
    job = rig.job(command, **more)  # type: ignore[arg-type]
    assert rig.stage_in(job) == 0, rig.log[-3000:]
    rig.run_container(job)
    return job


def follow(rig: Rig, *jobs: Job) -> None:
    with rig.service.lock:
        rig.service.followed = {job.key for job in jobs}


def pieces(rig: Rig, job: Job, stream: str = "out") -> list[tuple[int, bytes]]:
    """The live objects of a stream, in order."""
    prefix = f".leruli/live/{job.attempt}/{stream}/"
    names = sorted(name for name in rig.store.names(job.bucket) if name.startswith(prefix))
    return [(int(name[len(prefix) :]), rig.store.get(job.bucket, name)) for name in names]


def shown(rig: Rig, job: Job, stream: str = "out") -> bytes:
    """The live output of a stream that has no gap and nothing twice."""
    text, at = b"", None
    for offset, data in pieces(rig, job, stream):
        assert at in (None, offset)
        text, at = text + data, offset + len(data)
    return text


def rundir(rig: Rig, job: Job) -> bytes:
    return (rig.node_dir / "jobs" / job.name / "rundir" / "joblog.txt").read_bytes()


def live_names(rig: Rig, job: Job) -> set[str]:
    return {name for name in rig.store.names(job.bucket) if name.startswith(".leruli/live/")}


def end(rig: Rig, job: Job) -> None:
    (rig.node_dir / "jobs" / job.name / "rundir" / "stop").touch()
    wait_for(lambda: not rig.runs(), what="the end of the command")
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"


def test_a_followed_job_shows_what_it_writes_and_nothing_is_left(live_rig: Rig) -> None:
    rig, job = live_rig, begin_job(live_rig)
    wait_for(rig.runs)
    follow(rig, job)
    for stream in ("out", "err"):
        wait_for(lambda one=stream: shown(rig, job, one), SOON_S, stream)
        assert shown(rig, job, stream).startswith(f"{stream} 1\n".encode())
    before = len(shown(rig, job))
    wait_for(lambda: len(shown(rig, job)) > before, SOON_S, "more")
    assert rundir(rig, job).startswith(shown(rig, job))
    name = sorted(live_names(rig, job))[0]
    metadata = rig.store.client.stat_object(job.bucket, name).metadata
    assert metadata is not None
    assert metadata[MARK] == job.name
    end(rig, job)
    assert not live_names(rig, job)
    assert rig.store.get(job.bucket, "joblog.txt").endswith(b"last\n")
    wait_for(lambda: rig.is_clean(job))


def test_of_a_job_that_nobody_follows_nothing_is_uploaded(live_rig: Rig) -> None:
    rig, other, job = live_rig, begin_job(live_rig), begin_job(live_rig)
    follow(rig, other)
    wait_for(lambda: shown(rig, other), SOON_S)
    assert rundir(rig, job)
    assert not live_names(rig, job)


def test_a_job_that_is_followed_before_it_begins_is_shown_from_its_first_byte(
    live_rig: Rig,
) -> None:
    """Its input has the logs of an earlier run, which are not its output."""
    rig = live_rig
    logs = {"joblog.txt": b"old output\n" * 100, "joberr.txt": b"old errors\n"}
    job = rig.job(LINES, files=logs)
    follow(rig, job)
    assert rig.stage_in(job) == 0
    # Two steps of the agent pass.
    time.sleep(2.0)
    assert not live_names(rig, job)
    rig.run_container(job)
    wait_for(lambda: len(pieces(rig, job)) > 1, SOON_S)
    assert shown(rig, job).startswith(b"out 1\n")
    assert b"old" not in shown(rig, job, "err")


def test_it_ends_when_nobody_follows_any_more_and_goes_on_where_it_was(rig: Rig) -> None:
    listen(rig, period_s=0.5)
    job, other = begin_job(rig), begin_job(rig)
    follow(rig, job)
    wait_for(lambda: shown(rig, job), SOON_S)
    follow(rig, other)
    wait_for(lambda: shown(rig, other), SOON_S)
    before = shown(rig, job)
    # The other one goes on meanwhile.
    at = len(shown(rig, other))
    wait_for(lambda: len(shown(rig, other)) > at, SOON_S)
    assert shown(rig, job) == before
    follow(rig, job)
    wait_for(lambda: len(shown(rig, job)) > len(before), SOON_S)
    assert rundir(rig, job).startswith(shown(rig, job))


def test_an_agent_that_was_killed_goes_on_where_it_was(live_rig: Rig) -> None:
    rig, job = live_rig, begin_job(live_rig)
    follow(rig, job)
    wait_for(lambda: shown(rig, job), SOON_S)
    rig.kill()
    before = shown(rig, job)
    rig.start()
    wait_for(lambda: len(shown(rig, job)) > len(before), 2 * SOON_S)
    assert rundir(rig, job).startswith(shown(rig, job))
    end(rig, job)
    assert not live_names(rig, job)


def test_an_agent_that_was_killed_removes_what_the_one_before_left(live_rig: Rig) -> None:
    rig, job = live_rig, begin_job(live_rig)
    follow(rig, job)
    wait_for(lambda: shown(rig, job), SOON_S)
    rig.kill()
    follow(rig)
    foreign = ".leruli/live/1/out/000000000000999"
    rig.store.put(job.bucket, foreign, b"of somebody else")
    rig.start()
    end(rig, job)
    assert live_names(rig, job) == {foreign}


def test_what_an_abandoned_attempt_left_goes_with_the_next_one(live_rig: Rig) -> None:
    rig, job = live_rig, begin_job(live_rig)
    follow(rig, job)
    wait_for(lambda: shown(rig, job), SOON_S)
    rig.service.stale.add(job.key)
    wait_for(lambda: rig.is_clean(job), 20, "the abandoned attempt is gone")
    assert live_names(rig, job)
    follow(rig)
    again = next_attempt(rig, job, "echo again")
    rig.run(again)
    assert not live_names(rig, again)
    assert rig.store.get(job.bucket, "joblog.txt") == b"again\n"


def test_a_job_that_writes_fast_is_shown_in_bounded_pieces(live_rig: Rig) -> None:
    rig = live_rig
    fast = "until [ -e stop ]; do head -c 4000000 /dev/zero | tr '\\0' 'a' | fold; done"
    job = begin_job(rig, fast)
    follow(rig, job)
    wait_for(lambda: len(pieces(rig, job)) >= 3, 2 * SOON_S)
    found = pieces(rig, job)
    assert all(len(data) <= 1_000_000 for _, data in found)
    (first, data), (second, _) = found[-2:]
    assert first + len(data) < second
    end(rig, job)
    assert not live_names(rig, job)


def test_a_log_that_is_no_regular_file_shows_nothing(live_rig: Rig) -> None:
    rig = live_rig
    nasty = "rm joblog.txt joberr.txt; ln -s run.sh joblog.txt; mkfifo joberr.txt; "
    job, other = begin_job(rig, nasty + LINES), begin_job(rig)
    follow(rig, job, other)
    wait_for(lambda: len(pieces(rig, other)) > 1, SOON_S)
    assert b"run.sh" not in shown(rig, job)
    assert b"until" not in shown(rig, job)


def test_files_of_the_job_with_names_of_live_objects_are_kept(live_rig: Rig) -> None:
    job = live_rig.job("mkdir -p .leruli/live/1/out; echo mine >.leruli/live/1/out/0; echo x >y")
    live_rig.run(job)
    names = live_rig.store.names(job.bucket)
    assert not live_names(live_rig, job)
    [rest] = [name for name in names if name not in ("run.tgz", "joblog.txt", "joberr.txt", "y")]
    notes = live_rig.store.get(job.bucket, "joberr.txt").decode()
    assert f"in {rest}: 1 file with a reserved name: .leruli/live/1/out/0" in notes


def test_in_a_shared_container_each_job_shows_its_own_output(live_rig: Rig) -> None:
    rig = live_rig
    jobs = [
        shared_job(rig, f"for i in $(seq 30); do echo {name} $i; sleep 0.1; done", files=files)
        for name, files in (("one", {}), ("two", {"joblog.txt": b"old output\n"}), ("three", {}))
    ]
    seen: dict[str, dict[int, bytes]] = {job.job: {} for job in jobs}
    # An attempt that was given back runs again under the next number.
    rig.service.followed = {(job.job, number) for job in jobs for number in range(1, 5)}
    first = begin(rig)
    out = rig.stage("out", first)

    def is_over() -> bool:
        for job in jobs:
            for name in live_names(rig, job):
                # It may go at any moment.
                with contextlib.suppress(S3Error):
                    _, _, _, stream, offset = name.split("/")
                    if stream == "out":
                        seen[job.job][int(offset)] = rig.store.get(job.bucket, name)
        return out.poll() is not None

    wait_for(is_over, 60, "the slot")
    for job in jobs:
        text = b"".join(data for _, data in sorted(seen[job.job].items()))
        assert text
        assert rig.store.get(job.bucket, "joblog.txt").startswith(text)
        assert not live_names(rig, job)
