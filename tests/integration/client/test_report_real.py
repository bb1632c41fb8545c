"""task-report with the real service: jobs, batches, folders, and Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from batch_world import set_states, submitting
from terminal_world import on_terminal

import leruli

ENDED = """
    UPDATE attempts a
    SET wall_s = 600, cpu_s = 540, peak_memory_mb = 3900, peak_no_cache_mb = 300, disk_mb = 40,
        image_s = 0.5, input_s = 0.25, output_s = 2, ended_at = now(),
        outcome = CASE WHEN j.state = 'failed' THEN 'out_of_memory' ELSE 'ended' END
    FROM jobs j
    WHERE j.id = a.job_id AND j.group_id = $1 AND j.state IN ('failed', 'completed')
"""


@pytest.fixture
def scan(real, group, queue, cases):
    """A batch of four: two completed, one failed at its memory limit, one waits."""
    folders = [cases / f"mine-{number}" for number in range(4)]
    for folder in folders:
        folder.mkdir()
        (folder / "input.dat").write_text(folder.name)
    done = real(
        *submitting(pattern="mine-*"),
        "--name",
        "scan",
        "--cores",
        "4",
        "--memory",
        "4000",
        cwd=cases,
    )
    assert done.returncode == 0, done.stderr
    queue.sql(
        "INSERT INTO attempts (job_id, number, node_set, claimed_at, started_at)"
        " SELECT id, 1, '', received_at, received_at FROM jobs WHERE group_id = $1",
        group.id,
    )
    queue.sql("UPDATE jobs SET attempt = 1 WHERE group_id = $1", group.id)
    set_states(queue, group, "failed", folders[:1])
    set_states(queue, group, "completed", folders[1:3])
    queue.sql(ENDED, group.id)
    return folders


def document(real, *arguments, cwd):
    done = real("task-report", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_batch_by_name_id_and_folders(real, scan, cases):
    by_name = document(real, "--batch", "scan", cwd=cases)
    assert (by_name["ended"], by_name["measured"], by_name["notended"]) == (3, 3, 1)
    memory = by_name["resources"]["memory"]
    assert (memory["asked"], memory["median"], memory["atlimit"]) == (4000, 300, 1)
    # One of three was killed at its limit.
    assert memory["askfor"] == 8000
    assert by_name["resources"]["time"]["askfor"] == 12 * 60
    assert by_name["resources"]["cores"]["askfor"] == 1
    assert by_name["cpuefficiency"] == pytest.approx(540 / 2400)
    by_folder = document(real, "--batch", "mine-*/", cwd=cases)
    names = {job["name"] for job in by_name["jobs"]}
    assert names == {job["name"] for job in by_folder["jobs"]} == {"mine-0", "mine-1", "mine-2"}
    assert by_folder["resources"] == by_name["resources"]


def test_a_table_that_fits_a_terminal_and_csv(real, scan, cases):
    shown = on_terminal("task-report", "--batch", "scan", "--jobs", columns=80, cwd=cases)
    assert shown.returncode == 0
    assert all(len(line) <= 80 for line in shown.lines)
    text = "\n".join(shown.lines)
    assert "300 MB of 4,000 MB" in text
    assert "--memory 8000" in text
    assert "1 job reached the limit of memory." in text
    assert "Not ended: 1 job." in text
    done = real("task-report", "--batch", "scan", "--csv", cwd=cases)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("name,jobid,code,")


def test_one_job_by_its_folder(real, scan, cases):
    here = document(real, cwd=scan[1])
    named = document(real, (scan[1] / "leruli.job").read_text().strip(), cwd=cases)
    assert here == named
    assert here["resources"]["memory"]["askfor"] == 360
    assert here["jobs"][0]["used"]["outputseconds"] == 2


def test_what_cannot_be_reported(real, scan, cases):
    waiting = real("task-report", cwd=scan[3])
    assert waiting.returncode == 4
    assert "None of these jobs has ended" in waiting.stderr
    assert real("task-report", "--batch", "no-such-batch", cwd=cases).returncode == 4
    assert real("task-report", "--batch", "scan", "x", cwd=cases).returncode == 2
    assert real("task-report", "--csv", "--json", cwd=scan[1]).returncode == 2


def test_the_python_function(environment, scan):
    found = leruli.task_report(batch="scan")
    assert len(found.jobs) == 3
    assert found.resources["memory"].ask_for == 8000
    [one] = leruli.task_report([Path(scan[1])]).jobs
    assert (one.name, one.memory_mb, one.peak_no_cache_mb) == ("mine-1", 4000, 300)
    with pytest.raises(leruli.RefusedError):
        leruli.task_report()
    with pytest.raises(leruli.NotFoundError):
        leruli.task_report(batch="no-such-batch")
