"""--shm-size, from the command line to the real queue and to a queue without it."""

import json

PSI4 = ("psi4:1.5", "psi4", "input.dat")
OLDER = "The queue is older than this client and cannot set the size of /dev/shm (--shm-size)"


def sizes(queue, group):
    found = queue.sql("SELECT shm_mb FROM jobs WHERE group_id = $1 ORDER BY id", group.id)
    return [row["shm_mb"] for row in found]


def end_all(queue, group):
    queue.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE group_id = $1", group.id)


def refused(done, sentence, folder):
    assert done.returncode == 1
    assert sentence in done.stderr
    assert not any(folder.glob("leruli.*"))


def test_a_job_gets_it_and_its_resubmission_too(real, queue, group, water):
    done = real("task-submit", "--shm-size", "500", *PSI4, cwd=water)
    assert done.returncode == 0, done.stderr
    told = json.loads(real("task-status", "--json", done.stdout.strip(), cwd=water).stdout)
    assert told["detail"]["shmmb"] == 500
    for options, size in (((), 500), (("--shm-size", "700"), 700)):
        end_all(queue, group)
        again = real("task-resubmit", *options, cwd=water)
        assert again.returncode == 0, again.stderr
        assert sizes(queue, group)[-1] == size


def test_a_batch_gets_it(real, queue, group, cases):
    batch = ("task-submit", "--batch", "case-00*", "--shm-size", "500", *PSI4)
    assert real(*batch).returncode == 0
    assert set(sizes(queue, group)) == {500}
    end_all(queue, group)
    assert real("task-resubmit", "--batch", "case-00*").returncode == 0
    assert set(sizes(queue, group)) == {500}


def test_without_it_nothing_is_asked_for(real, queue, group, water):
    assert real("task-submit", *PSI4, cwd=water).returncode == 0
    assert sizes(queue, group) == [None]


def test_more_than_the_memory_is_refused_before_anything_is_touched(real, queue, group, water):
    limits = ("--memory", "400", "--shm-size", "500")
    sentence = "The size of /dev/shm (500 MB) is more than the memory of the job (400 MB)."
    refused(real("task-submit", *limits, *PSI4, cwd=water), sentence, water)
    done = real("task-submit", "--shm-size", "0", *PSI4, cwd=water)
    assert done.returncode == 2
    assert real("task-submit", "--shm-size", "500", *PSI4, cwd=water).returncode == 0
    end_all(queue, group)
    job = (water / "leruli.job").read_text()
    again = real("task-resubmit", "--memory", "400", cwd=water)
    assert again.returncode == 1
    assert sentence in again.stderr
    assert (water / "leruli.job").read_text() == job


def test_a_queue_that_cannot_check_does_not_get_such_a_job(leruli, water, service):
    done = leruli("task-submit", "--shm-size", "500", *PSI4, cwd=water)
    refused(done, f"{OLDER}: the job would get 64 MB. Nothing was submitted.", water)
    assert not service.jobs


def test_a_queue_that_ignores_it_does_not_get_such_a_job(leruli, water, service):
    service.scripted["task-check"] = lambda body: (
        200,
        [{"status": 200, "data": {"warnings": []}} for _ in body["jobs"]],
    )
    refused(leruli("task-submit", "--shm-size", "500", *PSI4, cwd=water), OLDER, water)
    assert not service.jobs
    assert leruli("task-submit", *PSI4, cwd=water).returncode == 0
    # A folder whose last job was submitted to a newer queue.
    record = water / "leruli.folder"
    document = json.loads(record.read_text())
    document["spec"]["shmmb"] = 500
    record.write_text(json.dumps(document))
    job = (water / "leruli.job").read_text()
    service.scripted["bulk/task-status"] = lambda body: (
        200,
        [{"status": 200, "data": {"status": "failed", "reason": None}} for _ in body["jobids"]],
    )
    again = leruli("task-resubmit", cwd=water)
    assert again.returncode == 1
    assert OLDER in again.stderr
    assert (water / "leruli.job").read_text() == job
