"""Lists, usage and events of batches, on the command line and in Python, at the real service."""

from __future__ import annotations

import json

import pytest
from batch_world import job_of, set_states
from terminal_world import on_terminal

import leruli
from leruli import settings
from leruli.service.queue_client import QueueClient


@pytest.fixture
def scans(real, tmp_path):
    """Two batches, "scan" of three folders and "other" of one; and a folder without a batch."""
    for name, count in (("scan", 3), ("other", 1)):
        for number in range(count):
            folder = tmp_path / name / f"{name}-{number}"
            folder.mkdir(parents=True)
            (folder / "input.dat").write_text(f"{number}\n")
        submit = ("--batch", f"{name}-*/", "--name", name, "psi4", "1.5", "psi4 input.dat")
        assert real("task-submit", *submit, cwd=tmp_path / name).returncode == 0
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "input.dat").write_text("x\n")
    assert real("task-submit", "psi4", "1.5", "psi4 input.dat", cwd=alone).returncode == 0
    return tmp_path


def measured(queue, group, *, wall_s, cpu_s):
    """Give each job of the group an attempt that was measured."""
    queue.sql(
        "INSERT INTO attempts (job_id, number, node_set, wall_s, cpu_s, ended_at)"
        " SELECT id, 1, 'set', $2, $3, now() FROM jobs WHERE group_id = $1",
        *(group.id, wall_s, cpu_s),
    )


def listed(real, *arguments, **more):
    done = real(*arguments, "--json", **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["jobs"]


def test_lists_of_a_batch(real, scans):
    folders = sorted((scans / "scan").glob("scan-*"))
    jobs = {job_of(folder) for folder in folders}
    every = listed(real, "task-list", cwd=scans)
    assert {job["jobid"] for job in every if job["batchname"] == "scan"} == jobs
    [batchid] = {job["batchid"] for job in every if job["jobid"] in jobs}
    assert [job["batchid"] for job in every if job["name"] == "alone"] == [None]
    for named in ("scan", batchid, batchid[:8]):
        found = listed(real, "task-list", "--batch", named, cwd=scans)
        assert {job["jobid"] for job in found} == jobs, named
        found = listed(real, "group", "activity", "--batch", named, cwd=scans)
        assert {job["jobid"] for job in found} == jobs, named
    assert listed(real, "task-list", "--batch", "scan", "--state", "failed", cwd=scans) == []
    for command in (["task-list"], ["group", "activity"], ["group", "usage"]):
        done = real(*command, "--batch", "nothing", cwd=scans)
        assert done.returncode == 4, (command, done.stderr)
    titles, first, *_ = real("task-list", "--batch", "scan", cwd=scans).stdout.splitlines()
    row = dict(zip(titles.split("\t"), first.split("\t"), strict=True))
    assert row["batch"] == "scan"
    shown = on_terminal("task-status", columns=80, cwd=folders[0])
    assert any(line.split() == ["batch", "scan", f"({batchid[:8]})"] for line in shown.lines)


def test_usage_of_batches_shows_what_stood_idle(real, scans, queue, group):
    measured(queue, group, wall_s=3600.0, cpu_s=900.0)
    queue.sql("UPDATE jobs SET state = 'completed', ended_at = now() WHERE group_id = $1", group.id)
    table = real("group", "usage", "--by", "batch", "--quiet", cwd=scans).stdout
    rows = {line.split("\t")[0]: line.split("\t")[2:] for line in table.splitlines()}
    assert rows["scan"] == ["3", "3", "0", "0", "3.00", "0.75", "25.0"]
    assert rows["other"] == ["1", "1", "0", "0", "1.00", "0.25", "25.0"]
    assert rows[""] == ["1", "1", "0", "0", "1.00", "0.25", "25.0"]
    one = real("group", "usage", "--by", "user", "--batch", "scan", "--quiet", cwd=scans)
    assert one.stdout == "ada\t3\t3\t0\t0\t3.00\t0.75\t25.0\n"
    found = real("group", "usage", "--by", "user", "--batch", "scan", "--csv", cwd=scans)
    assert found.stdout.splitlines()[1].startswith("ada,,,3,3,0,0,3.0,3.0,0.75")
    usage = {row.batch_name: row for row in leruli.group_usage(["batch"])}
    assert (usage["scan"].cpu_hours, usage["scan"].measured_core_hours) == (0.75, 3.0)
    assert usage["scan"].cpu_efficiency == 0.25
    [total] = leruli.group_usage([], batch="scan")
    assert (total.jobs, total.core_hours, total.batch_id) == (3, 3.0, None)


def test_batches_in_python(real, scans, queue, group):
    [other] = leruli.task_list(batch="other")
    assert (other.name, other.batch_name) == ("other-0", "other")
    assert leruli.task_detail(other.jobid).batch_id == other.batch_id
    found = list(leruli.group_activity(batch="scan", user="ada"))
    assert [job.batch_name for job in found] == ["scan"] * 3
    with pytest.raises(leruli.NotFoundError):
        leruli.task_list(batch="nothing")
    with pytest.raises(leruli.NotFoundError):
        next(leruli.group_activity(batch="nothing"))


def test_events_of_a_batch_in_python(real, scans, queue, group):
    folders = [scans / "scan" / f"scan-{number}" for number in range(3)]
    [first] = leruli.task_list(batch="scan", limit=1)
    with QueueClient(settings.service_settings()) as client:
        cursor = client.events(None).cursor
    # An event of another batch comes first, and is not read.
    set_states(queue, group, "failed", [scans / "other" / "other-0"])
    set_states(queue, group, "completed", folders)
    found = leruli.events(cursor, batch="scan", timeout=60)
    told = [next(found) for _ in folders]
    assert {event.batch_id for event in told} == {first.batch_id}
    assert {(event.state, event.batch_name) for event in told} == {("completed", "scan")}
    assert {event.jobid for event in told} == {job_of(folder) for folder in folders}


@pytest.mark.parametrize(
    "arguments",
    [
        ["task-list", "--batch", "01234567-89ab-4def-8123-456789abcdef"],
        ["group", "activity", "--batch", "scan"],
        ["group", "usage", "--batch", "scan"],
    ],
)
def test_a_service_that_ignores_the_batch_is_noticed(arguments, request, environment, service):
    """The FAKE service is an older one: it answers with all jobs."""
    row = {"user": "ada", "code": None, "month": None, "jobs": 3, "corehours": 1.0}
    service.scripted["task-list"] = lambda _: (200, {"jobs": [{"jobid": "1"}], "next": None})
    service.scripted["group-activity"] = service.scripted["task-list"]
    service.scripted["group-usage"] = lambda _: (200, {"rows": [row]})
    client = request.getfixturevalue("leruli")
    done = client(*arguments, LERULI_GROUP_TOKEN="")
    assert done.returncode == 5
    assert "older version" in done.stderr
