"""--share-container, from the command line to the real queue and to a queue without it."""

import json

PSI4 = ("psi4:1.5", "psi4", "input.dat")


def shares(queue, group):
    found = queue.sql("SELECT share_container FROM jobs WHERE group_id = $1 ORDER BY id", group.id)
    return [row["share_container"] for row in found]


def end_all(queue, group):
    queue.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE group_id = $1", group.id)


def test_a_job_gets_it_and_its_resubmission_keeps_it(real, queue, group, water):
    done = real("task-submit", "--share-container", *PSI4, cwd=water)
    assert done.returncode == 0, done.stderr
    told = json.loads(real("task-status", "--json", done.stdout.strip(), cwd=water).stdout)
    assert told["detail"]["sharecontainer"] is True
    steps = (((), True), (("--no-share-container",), False), ((), False))
    for options, kept in (*steps, (("--share-container",), True)):
        end_all(queue, group)
        again = real("task-resubmit", *options, cwd=water)
        assert again.returncode == 0, again.stderr
        assert shares(queue, group)[-1] is kept


def test_a_batch_gets_it(real, queue, group, cases):
    batch = ("task-submit", "--batch", "case-00*", "--share-container", *PSI4)
    assert real(*batch).returncode == 0
    assert set(shares(queue, group)) == {True}
    end_all(queue, group)
    assert real("task-resubmit", "--batch", "case-00*").returncode == 0
    assert set(shares(queue, group)) == {True}


def test_without_it_a_job_has_its_own_container(real, queue, group, water):
    done = real("task-submit", *PSI4, cwd=water)
    assert done.returncode == 0
    assert shares(queue, group) == [False]
    told = json.loads(real("task-status", "--json", done.stdout.strip(), cwd=water).stdout)
    assert told["detail"]["sharecontainer"] is False


def test_a_queue_that_does_not_know_it_takes_the_job(leruli, service, water):
    done = leruli("task-submit", "--share-container", *PSI4, cwd=water)
    assert done.returncode == 0, done.stderr
    [job] = service.jobs.values()
    assert job["sharecontainer"] is True
