"""--retry, from the command line to the real queue and to a queue without it."""

import json

PSI4 = ("psi4:1.5", "psi4", "input.dat")
RULE = ("--memory", "2000:16000", "--time", "1:10", "--retry", "3")
OLDER = "The queue is older than this client and cannot try a job again (--retry)"


def end_all(queue, group):
    queue.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE group_id = $1", group.id)


def rule_of(real, water):
    return json.loads(real("task-status", "--json", cwd=water).stdout)["detail"]["retry"]


def test_a_job_gets_a_rule_and_its_resubmission_too(real, queue, group, water):
    done = real("task-submit", *RULE, *PSI4, cwd=water)
    assert done.returncode == 0, done.stderr
    rule = {
        "most": 3,
        "used": 0,
        "on": ["out-of-memory", "time-limit"],
        "memorymb": 16000,
        "timelimit": 600,
        "firstmemorymb": 2000,
        "firsttimelimit": 60,
    }
    assert rule_of(real, water) == rule
    ends = ("--retry-on", "exit=1,time-limit")
    steps = (
        ((), rule),
        (ends, rule | {"on": ["exit=1", "time-limit"]}),
        (("--retry", "0"), None),
        ((), None),
    )
    for options, expected in steps:
        end_all(queue, group)
        again = real("task-resubmit", *options, cwd=water)
        assert again.returncode == 0, again.stderr
        assert rule_of(real, water) == expected


def test_what_makes_no_sense_is_refused_before_anything_is_touched(real, water):
    for options, code, sentence in (
        (("--memory", "2000:1000"), 2, "the most is less than the first"),
        (("--memory", "2000:"), 2, "such as 60 or 60:600. Memory is in MB"),
        (("--memory", "2000:4000"), 1, "need the number of retries too"),
        (("--retry", "3"), 1, "Nothing says after what the job is tried again. Give a most"),
        (("--retry", "3", "--retry-on", "exit=one"), 1, "'exit=one' is no end"),
    ):
        done = real("task-submit", *options, *PSI4, cwd=water)
        assert done.returncode == code, done.stderr
        assert sentence in " ".join(done.stderr.split())
        assert not any(water.glob("leruli.*"))


def test_a_queue_that_ignores_it_does_not_get_such_a_job(leruli, water, service):
    for answer in (None, lambda body: (200, [{"status": 200, "data": {"warnings": []}}])):
        if answer:
            service.scripted["task-check"] = answer
        done = leruli("task-submit", *RULE, *PSI4, cwd=water)
        assert done.returncode == 1
        assert OLDER in done.stderr
        assert not service.jobs
