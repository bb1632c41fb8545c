"""What the client shows of a retry rule, and its warning of a retry that no machine can hold."""

from __future__ import annotations

import json

from batch_world import job_of
from terminal_world import on_terminal

import leruli

PSI4 = ("psi4:1.5", "psi4", "input.dat")
RULE = ("--memory", "2000:16000", "--time", "1:10", "--retry", "3")
WHY = "killed: used more than 2000 MB"
AGAIN = f"attempt 2 of 4: {WHY}; runs again with 4000 MB"


def retry_once(queue, job):
    """Change the job as the service does when its first attempt ran out of memory."""
    queue.sql(
        "UPDATE jobs SET retries = 1, attempt = 1, memory_mb = 4000, reason = $2,"
        " retry_reason = $2 WHERE id = $1",
        *(job, AGAIN),
    )
    queue.sql(
        "INSERT INTO attempts (job_id, number, node_set, outcome, message, memory_mb, time_limit_s,"
        " started_at, ended_at) VALUES ($1, 1, 'set', 'out_of_memory', $2, 2000, 60, now(), now())",
        *(job, WHY),
    )


def second_attempt_ends(queue, job):
    queue.sql(
        "INSERT INTO attempts (job_id, number, node_set, outcome, started_at, ended_at)"
        " VALUES ($1, 2, 'set', 'ended', now(), now())",
        job,
    )
    queue.sql(
        "UPDATE jobs SET attempt = 2, state = 'completed', reason = NULL, ended_at = now()"
        " WHERE id = $1",
        job,
    )


def add_machine(queue, group, memory_mb):
    queue.sql(
        """
        INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,
                           agent_version, alive)
        SELECT gen_random_uuid(), id, 'carbon', gen_random_uuid()::text, '', compute_epoch, 16,
               $2::int, '26.11', true FROM groups WHERE id = $1
        """,
        *(group.id, memory_mb),
    )


def shown(folder):
    """What task-status shows on a terminal, with single spaces."""
    return " ".join(on_terminal("task-status", columns=120, cwd=folder).text.split())


def test_task_status_shows_the_attempt_and_what_the_next_has(real, queue, group, water):
    assert real("task-submit", *RULE, *PSI4, cwd=water).returncode == 0
    rule = "after out-of-memory, time-limit; up to 16,000 MB, 10 min"
    found = shown(water)
    assert f"retries attempt 1 of 4; {rule}" in found
    assert "next attempt" not in found
    job = job_of(water)
    retry_once(queue, job)
    found = shown(water)
    assert f"received: {AGAIN}" in found
    assert f"retries attempt 2 of 4; {rule}" in found
    assert "next attempt 4,000 MB, 1 min" in found
    second_attempt_ends(queue, job)
    found = shown(water)
    assert f"retries 1 of 3 used; {rule}" in found
    assert "next attempt" not in found
    assert f"attempt 1 no node yet (2,000 MB, 1 min): out_of_memory: {WHY}" in found
    assert "attempt 2 no node yet (4,000 MB, 1 min): ended" in found


def test_a_job_without_a_rule_shows_nothing_of_it(real, queue, water):
    assert real("task-submit", *PSI4, cwd=water).returncode == 0
    assert "retries" not in shown(water)
    assert leruli.task_detail(water).retry is None


def test_the_rule_in_python(real, queue, water):
    assert real("task-submit", *RULE, *PSI4, cwd=water).returncode == 0
    retry_once(queue, job_of(water))
    detail = leruli.task_detail(water)
    assert detail.retry == leruli.Retry(
        most=3,
        used=1,
        ends=("out-of-memory", "time-limit"),
        most_memory_mb=16000,
        most_time_limit_seconds=600,
        first_memory_mb=2000,
        first_time_limit_seconds=60,
    )
    assert (detail.memory_mb, detail.reason.partition("; waiting")[0]) == (4000, AGAIN)
    [attempt] = detail.attempts
    assert (attempt.memory_mb, attempt.time_limit_seconds) == (2000, 60)


def test_a_retry_that_no_machine_can_hold_is_warned_of_or_refused(real, queue, group, water):
    add_machine(queue, group, 8000)
    sentence = "No machine of the group can hold a retry with 16000 MB now"
    refused = real("task-submit", "--strict", "--json", *RULE, *PSI4, cwd=water)
    assert refused.returncode == 1
    message = json.loads(refused.stdout)["error"]["message"]
    assert message.startswith(sentence)
    assert "the largest, carbon, has 16 cores and 8000 MB" in message
    assert not (water / "leruli.job").exists()
    add_machine(queue, group, 16_000)
    assert real("task-submit", "--strict", *RULE, *PSI4, cwd=water).returncode == 0
    other = water.with_name("other")
    other.mkdir()
    (other / "input.dat").write_text("x")
    larger = ("--memory", "2000:32000", "--retry", "4")
    warned = real("task-submit", *larger, *PSI4, cwd=other)
    assert warned.returncode == 0
    assert "can hold a retry with 32000 MB now" in " ".join(warned.stderr.split())
