from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from leruli_node.attempts.decide import decide
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_answers import parse_time, parse_usage
from leruli_node.container.script_notes import ScriptNotes, parse_times, read_notes
from leruli_node.model import (
    STAGED,
    AttemptId,
    AttemptState,
    ContainerFacts,
    Decision,
    StartGrant,
)
from leruli_node.node_facts import read_node
from leruli_node.outcomes import Outcome

GRANT = StartGrant("bucket", "psi4", "1.5", 1, 4000, 100.0)
STATE = AttemptState(
    job="00000000-0000-4000-8000-000000000001",
    attempt=1,
    alloc="a",
    startkey="k",
    phase=STAGED,
    boot_id="boot",
    grant=GRANT,
)
LIMIT = dataclasses.replace(STATE, time_limit_at=101.0)
STOPPED = dataclasses.replace(STATE, stopped_at=5.0)
PROBLEM = dataclasses.replace(STATE, problem_outcome=Outcome.IMAGE_BROKEN, problem_message="why")
STARTED = dataclasses.replace(STATE, started_at=0.0)
LIMITED = dataclasses.replace(GRANT, diskmb=500)
OVER = dataclasses.replace(STATE, grant=LIMITED, disk_over_at=5.0)
FULL = dataclasses.replace(STATE, grant=LIMITED, disk_full=True)
FULL_UNLIMITED = dataclasses.replace(STATE, disk_full=True)
OTHER_BOOT = dataclasses.replace(STATE, boot_id="earlier")
TERMED = ScriptNotes(started=True, exit_code=143, terminated=True)


def ran(code: int, seconds: float = 10.0, **more: object) -> ContainerFacts:
    return ContainerFacts(code, started_at=0.0, finished_at=seconds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "container", "hints", "killed", "outcome"),
    [
        (STATE, ran(0), ScriptNotes(exit_code=0), False, "ended"),
        (STATE, ran(3), ScriptNotes(exit_code=3), False, "ended"),
        (STATE, ran(137), ScriptNotes(exit_code=137), False, "ended"),
        (STATE, ran(122), ScriptNotes(), False, "ended"),
        (PROBLEM, None, ScriptNotes(), False, "image_broken"),
        (PROBLEM, ran(0), ScriptNotes(exit_code=0), False, "image_broken"),
        (STATE, None, ScriptNotes(), False, "node_trouble"),
        # Somebody removed the container (docker system prune); it had ended by itself before.
        (STARTED, None, ScriptNotes(started=True, exit_code=0), False, "ended"),
        (STATE, None, ScriptNotes(started=True, exit_code=3), False, "ended"),
        (STATE, None, TERMED, False, "stopped"),
        (LIMIT, None, TERMED, False, "time_limit"),
        (STARTED, None, ScriptNotes(started=True), False, "node_trouble"),
        (OVER, ran(143), ScriptNotes(terminated=True, exit_code=143), True, "out_of_disk"),
        (OVER, ran(137), ScriptNotes(), True, "out_of_disk"),
        (OVER, ran(0), ScriptNotes(exit_code=0), False, "ended"),
        (FULL, ran(1), ScriptNotes(exit_code=1), False, "node_trouble"),
        (FULL, ran(0), ScriptNotes(exit_code=0), False, "ended"),
        (FULL_UNLIMITED, ran(1), ScriptNotes(exit_code=1), False, "ended"),
        (dataclasses.replace(STATE, grant=None), ran(0), ScriptNotes(), False, "node_trouble"),
        (STATE, ran(122), ScriptNotes(refused=True), False, "node_trouble"),
        # The job writes the note itself but ends otherwise.
        (STATE, ran(0), ScriptNotes(refused=True, exit_code=0), False, "ended"),
        (STATE, ContainerFacts(127, error="no such file"), ScriptNotes(), False, "node_trouble"),
        (OTHER_BOOT, ran(255), ScriptNotes(), False, "node_trouble"),
        (OTHER_BOOT, ran(0), ScriptNotes(exit_code=0), False, "ended"),
        (LIMIT, ran(143, 101.0), ScriptNotes(terminated=True, exit_code=143), True, "time_limit"),
        (LIMIT, ran(137, 131.0), ScriptNotes(terminated=True), True, "time_limit"),
        # The job ended between the note and the signal.
        (LIMIT, ran(0, 99.9), ScriptNotes(exit_code=0), False, "ended"),
        (LIMIT, ran(137, 131.0, oom_killed=True), ScriptNotes(), False, "time_limit"),
        (STATE, ran(137, oom_killed=True), ScriptNotes(), False, "out_of_memory"),
        (STATE, ran(0, oom_killed=True), ScriptNotes(exit_code=0), False, "out_of_memory"),
        (STATE, ran(143), ScriptNotes(terminated=True, exit_code=143), False, "stopped"),
        (STATE, ran(137), ScriptNotes(), True, "stopped"),
        (STOPPED, ran(0), ScriptNotes(exit_code=0), False, "stopped"),
        (STATE, ran(137), ScriptNotes(), False, "node_trouble"),
        (STATE, ran(255), ScriptNotes(), False, "node_trouble"),
        (STATE, ran(255), ScriptNotes(exit_code=255), False, "ended"),
        # Started again, and no end of the first run is noted.
        (STARTED, ran(122), ScriptNotes(refused=True), False, "node_trouble"),
    ],
)
def test_outcome(
    state: AttemptState,
    container: ContainerFacts | None,
    hints: ScriptNotes,
    killed: bool,
    outcome: str,
) -> None:
    decision = decide(state, container, hints, "boot", killed)
    assert decision.outcome == outcome
    if outcome == "ended":
        code = hints.exit_code if container is None else container.exit_code
        assert decision.exitcode == code
        assert decision.message is None
    else:
        assert decision.message


@pytest.mark.parametrize("docker_says", [137, 255])
def test_dockerd_was_away_when_the_job_ended_well(docker_says: int) -> None:
    decision = decide(STATE, ran(docker_says), ScriptNotes(exit_code=0), "boot")
    assert (decision.outcome, decision.exitcode) == ("ended", 0)
    oom = decide(STATE, ran(137, oom_killed=True), ScriptNotes(exit_code=0), "boot")
    assert (oom.outcome, oom.exitcode) == ("out_of_memory", 137)


def test_a_second_start_after_the_end_does_not_spoil_the_result() -> None:
    decision = decide(STARTED, ran(122, 0.1), ScriptNotes(refused=True, exit_code=3), "boot")
    assert (decision.outcome, decision.exitcode, decision.wallseconds) == ("ended", 3, None)
    # So short that the watcher did not see it run. Its note of the end is enough.
    decision = decide(STATE, ran(122, 0.1), ScriptNotes(refused=True, exit_code=0), "boot")
    assert (decision.outcome, decision.exitcode, decision.wallseconds) == ("ended", 0, None)
    limit = dataclasses.replace(STARTED, time_limit_at=100.0)
    hints = ScriptNotes(refused=True, terminated=True, exit_code=143)
    assert decide(limit, ran(122, 0.1), hints, "boot").outcome == "time_limit"


def test_messages() -> None:
    limit = decide(LIMIT, ran(143, 100.0), ScriptNotes(), "boot")
    assert limit.message == "time limit of 100 s reached; output up to then was uploaded"
    assert limit.wallseconds == 100.0
    oom = decide(STATE, ran(137, oom_killed=True), ScriptNotes(), "boot")
    assert oom.message == "killed: used more than 4000 MB"


def test_a_clock_that_was_set_is_not_the_jobs_time() -> None:
    """M7: Docker's times say an hour; the job ran for ten seconds."""
    started = dataclasses.replace(STARTED, started_boottime=1000.0)
    noted = dataclasses.replace(started, time_limit_at=5.0)
    # It began at 0 by the wall clock and at 1000 by CLOCK_BOOTTIME. Then the wall clock was set
    # ahead.
    ahead = 3600.0 - 1000.0
    decision = decide(noted, ran(0, 3610.0), ScriptNotes(exit_code=0), "boot", wall_offset=ahead)
    assert (decision.outcome, decision.wallseconds) == ("ended", 10.0)
    behind = -3600.0 - 1000.0
    decision = decide(noted, ran(143, -3490.0), ScriptNotes(), "boot", wall_offset=behind)
    assert (decision.outcome, decision.wallseconds) == ("time_limit", 110.0)


def test_memory_of_the_machine_is_not_the_jobs() -> None:
    """M8: Docker's answer and the samples are FAKES: cgroup v1 tells the two cases apart."""
    small = dataclasses.replace(STATE, machine_full=True, peak_memory_mb=900)
    decision = decide(small, ran(137, oom_killed=True), ScriptNotes(), "boot")
    assert decision.outcome == "node_trouble"
    assert decision.message == (
        "the machine itself ran out of memory; the job used 900 of its 4000 MB when it was ended"
    )
    large, killed = dataclasses.replace(small, peak_memory_mb=3900), ran(137, oom_killed=True)
    assert decide(large, killed, ScriptNotes(), "boot").outcome == "out_of_memory"
    roomy = dataclasses.replace(small, machine_full=False)
    assert decide(roomy, killed, ScriptNotes(), "boot").outcome == "out_of_memory"


def test_an_impossible_peak_of_memory_is_ignored() -> None:
    sampled = dataclasses.replace(STATE, peak_memory_mb=100)
    assert STATE.grant is not None
    most = STATE.grant.memorymb
    assert decide(sampled, ran(0), ScriptNotes(peak_memory_mb=most), "boot").peakmemorymb == most
    assert decide(sampled, ran(0), ScriptNotes(peak_memory_mb=99), "boot").peakmemorymb == 100
    assert decide(sampled, ran(0), ScriptNotes(peak_memory_mb=most + 1), "boot").peakmemorymb == 100
    assert decide(STATE, ran(0), ScriptNotes(peak_memory_mb=7), "boot").peakmemorymb == 7
    assert decide(STATE, ran(0), ScriptNotes(), "boot").peakmemorymb is None


def test_impossible_cpu_seconds_are_ignored() -> None:
    sampled = dataclasses.replace(STATE, cpu_seconds=4.0)
    assert decide(sampled, ran(0), ScriptNotes(cpu_seconds=9.0), "boot").cpuseconds == 9.0
    assert decide(sampled, ran(0), ScriptNotes(cpu_seconds=1.0), "boot").cpuseconds == 4.0
    assert decide(sampled, ran(0), ScriptNotes(cpu_seconds=1e9), "boot").cpuseconds == 4.0
    assert decide(STATE, ran(0), ScriptNotes(), "boot").cpuseconds is None


def test_notes_are_read_without_links_and_in_bounded_size(tmp_path: Path) -> None:
    import os

    secret = tmp_path / "secret"
    secret.write_text("7")
    control = tmp_path / "control"
    control.mkdir()
    (control / "exitcode").symlink_to(secret)
    os.mkfifo(control / "times")
    (control / "started").mkdir()
    hints = read_notes(control)
    assert hints == ScriptNotes(started=True)
    (control / "exitcode").unlink()
    (control / "exitcode").write_text("3\n")
    (control / "times").unlink()
    (control / "times").write_text("0m0.01s 0m0.00s\n1m2.50s 0m0.25s\n")
    assert read_notes(control).exit_code == 3
    assert read_notes(control).cpu_seconds == 62.75
    for text, peak in (("2097153\n", 3), ("-1", None), ("1" * 19, None), ("x", None), ("٣", None)):
        (control / "peakbytes").write_text(text)
        assert read_notes(control).peak_memory_mb == peak
    (control / "cachebytes").write_text("2097153\n")
    assert read_notes(control).cache_mb == 2
    # The cgroup's counter, and the shell's, which misses what nobody waited for.
    for text, seconds in (("90000000\n", 90.0), ("1000000", 62.75), ("-1", 62.75)):
        (control / "cpumicroseconds").write_text(text)
        assert read_notes(control).cpu_seconds == seconds
    (control / "exitcode").write_text("3; rm -rf /")
    assert read_notes(control).exit_code is None
    assert read_notes(tmp_path / "none") == ScriptNotes()


def test_times_of_other_shells() -> None:
    assert parse_times("0m0.000s 0m0.000s\n0m1.000s 0m2.000s") == 3.0
    assert parse_times("") is None
    assert parse_times("x\ny") is None


def test_docker_times() -> None:
    assert parse_time("0001-01-01T00:00:00Z") is None
    assert parse_time("1970-01-01T00:00:01.5Z") == 1.5
    assert parse_time("1970-01-01T01:00:01.123456789+01:00") == pytest.approx(1.123456789)
    assert parse_time(None) is None


def test_memory_without_page_cache_of_a_short_job() -> None:
    """Its peak less the cache at its end, where that can be; a longer one was sampled."""
    sampled = dataclasses.replace(STATE, peak_no_cache_mb=100)
    notes = ScriptNotes(peak_memory_mb=900, cache_mb=600)

    def decided(state: AttemptState, notes: ScriptNotes, seconds: float = 1.0) -> int | None:
        return decide(state, ran(0, seconds), notes, "boot").peaknocachemb

    assert decided(sampled, notes) == 300
    assert decided(STATE, notes) == 300
    assert decided(dataclasses.replace(STATE, peak_no_cache_mb=400), notes) == 400
    assert decided(sampled, notes, 5.0) == 100
    assert decided(STATE, notes, 5.0) is None
    # What a job can forge.
    for forged in (
        ScriptNotes(peak_memory_mb=4001, cache_mb=0),
        ScriptNotes(peak_memory_mb=900, cache_mb=900),
        ScriptNotes(peak_memory_mb=900),
        ScriptNotes(cache_mb=3),
    ):
        assert decided(sampled, forged) == 100


def test_usage_of_both_cgroup_versions() -> None:
    v1 = {
        "memory_stats": {"max_usage": 10 * 2**20, "usage": 1},
        "cpu_stats": {"cpu_usage": {"total_usage": 2e9}},
    }
    v2 = {"memory_stats": {"usage": 10 * 2**20, "stats": {"inactive_file": 4 * 2**20}}}
    one, two = parse_usage(v1), parse_usage(v2)
    assert one is not None
    assert (one.memory_mb, one.cpu_seconds) == (10, 2.0)
    assert two is not None
    assert (two.memory_mb, two.cpu_seconds) == (6, None)
    assert parse_usage({"memory_stats": {}}) is None
    assert (one.no_cache_mb, two.no_cache_mb) == (None, None)


def test_memory_without_page_cache_of_both_cgroup_versions() -> None:
    cache = {"active_file": 2 * 2**20, "inactive_file": 4 * 2**20}
    v1 = {"memory_stats": {"max_usage": 90 * 2**20, "usage": 10 * 2**20, "stats": cache}}
    v2 = {"memory_stats": {"usage": 10 * 2**20, "stats": cache | {"slab_reclaimable": 2**20}}}
    found = [parse_usage(stats) for stats in (v1, v2)]
    assert [one and one.no_cache_mb for one in found] == [4, 3]
    assert [one and one.memory_mb for one in found] == [90, 6]


def test_state_survives_the_process(tmp_path: Path) -> None:
    store = AttemptStore(tmp_path)
    store.create(STATE)
    store.update(STATE.id, time_limit_at=7.0)
    store.update(STATE.id, durable=False, peak_memory_mb=9)
    decision = decide(STATE, ran(3), ScriptNotes(exit_code=3), "boot")
    store.update(STATE.id, decision=decision)
    (tmp_path / "torn.json").write_text("{")
    again = AttemptStore(tmp_path)
    found = again.get(STATE.id)
    assert found is not None
    assert found == store.get(STATE.id)
    assert (found.time_limit_at, found.peak_memory_mb, found.decision) == (7.0, 9, decision)
    assert (tmp_path / "torn.broken").exists()
    again.remove(STATE.id)
    assert AttemptStore(tmp_path).all() == []
    assert again.update(STATE.id, ran=True) is None


def test_the_state_file_keeps_its_format() -> None:
    values = json.loads(STATE.to_bytes())
    assert values["lease"] == dataclasses.asdict(GRANT)
    assert "grant" not in values


def test_a_state_of_a_newer_agent_is_read(tmp_path: Path) -> None:
    values = json.loads(dataclasses.replace(STATE, decision=Decision(Outcome.ENDED)).to_bytes())
    values["newer"] = values["lease"]["newer"] = values["decision"]["newer"] = 1
    (tmp_path / "x.json").write_text(json.dumps(values))
    assert AttemptStore(tmp_path).all() == [
        dataclasses.replace(STATE, decision=Decision(Outcome.ENDED))
    ]
    (tmp_path / "node.json").write_text('{"nodeid": "n", "newer": 1}')
    assert read_node(tmp_path / "node.json").nodeid == "n"


def test_outcomes_are_written_and_shown_as_their_words() -> None:
    values = json.loads(dataclasses.replace(PROBLEM, decision=Decision(Outcome.ENDED)).to_bytes())
    assert values["problem_outcome"] == "image_broken"
    assert values["decision"]["outcome"] == "ended"
    assert f"{Outcome.ENDED} {Outcome.ENDED!s} %s" % Outcome.ENDED == "ended ended ended"


def test_an_outcome_of_another_version_is_kept_as_it_is() -> None:
    state = dataclasses.replace(PROBLEM, decision=Decision(Outcome.ENDED))
    text = state.to_bytes().replace(b"ended", b"bored").replace(b"image_broken", b"image_odd")
    read = AttemptState.from_bytes(text)
    assert read.to_bytes() == text
    assert decide(read, None, ScriptNotes(), "boot").outcome == "image_odd"


def test_an_attempt_with_a_broken_state_stays(tmp_path: Path) -> None:
    (tmp_path / f"{STATE.id.id}.json").write_text("{")
    store = AttemptStore(tmp_path)
    assert store.all() == []
    assert store.has(STATE.id.key)
    assert not store.has(STATE.id.key + "2")


def test_attempt_ids() -> None:
    attempt = AttemptId.parse("00000000-0000-4000-8000-000000000001", "12")
    assert attempt.key == "00000000-0000-4000-8000-000000000001x12"
    assert attempt.id == "00000000000040008000000000000001x12"
    for job, number in (("../../etc", "1"), (attempt.job, "-1"), (attempt.job, "²"), ("", "")):
        with pytest.raises(ValueError, match="attempt id"):
            AttemptId.parse(job, number)
