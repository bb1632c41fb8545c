"""The output on a terminal, with the real service and the real storage."""

import itertools
import json
import re

import pytest
from batch_world import set_states, submitting
from rich.cells import cell_len
from terminal_world import on_terminal

WIDTHS = (80, 120, 200)
LONG = "waiting for a node: no node of the group has 200 cores free. " + "The largest has 16. " * 12


@pytest.fixture
def jobs(real, group, queue, cases):
    """Six folders with jobs, one of each state; names and reasons of all kinds."""
    names = [
        "mol-0.96",
        "mol-1.00",
        "水分子の最適化計算-" * 6,
        "a b" * 40,
        "x" * 180,
        "b3lyp [bold]",
    ]
    folders = [cases / name for name in names]
    for folder in folders:
        folder.mkdir()
        (folder / "input.dat").write_text("molecule\n")
    (cases / "list").write_text("\n".join(names))
    assert real(*submitting(pattern="list")).returncode == 0
    states = ["received", "submitted", "running", "completed", "failed", "cancelled"]
    for folder, state in zip(folders, states, strict=True):
        set_states(queue, group, state, [folder])
    queue.sql(
        "UPDATE jobs SET reason = $1, submitted_at = now() - interval '3 minutes', running_at = "
        "now() - interval '130 minutes', received_at = now() - interval '3 days' "
        "WHERE group_id = $2",
        *(LONG, group.id),
    )
    return [(folder / "leruli.job").read_text().strip() for folder in folders]


COMMANDS = [["task-list"], ["group", "activity"], ["task-status", "--batch", "list"]]


def test_each_job_is_one_line_of_the_terminal(jobs, cases):
    for command, columns in itertools.product(COMMANDS, WIDTHS):
        shown = on_terminal(*command, columns=columns, cwd=cases)
        assert shown.returncode in (0, 1)
        # A heading, one line per job, and a sentence for a batch.
        assert len(shown.lines) == 7 + ("--batch" in command)
        for job in jobs:
            [line] = [line for line in shown.lines if job[-8:] in line.split()]
            # A job in the backlog or unplaced has another reason.
            if " received " not in line and " submitted " not in line:
                # The reason is cut short and fills the line.
                assert line.endswith("…")
                assert cell_len(line) > columns - 12
        assert LONG[:12] in shown.text
        assert "mol-0.96" in shown.text
        assert "\x1b[32mcompleted" in shown.raw
        assert "\x1b[31mfailed" in shown.raw
        if command[0] == "task-list":
            for since in ("received +3 d", "submitted +3 min", "running +2 h", "completed +\\d+ s"):
                assert re.search(f" {since} ", shown.text), shown.text


def test_a_row_that_fits_is_whole(real, group, queue, cases):
    assert real(*submitting(pattern="case-00*")).returncode == 0
    failed = "UPDATE jobs SET state = 'failed', ended_at = now(), reason = 'exit code 3' WHERE "
    queue.sql(failed + "group_id = $1", group.id)
    for command in COMMANDS[:2]:
        shown = on_terminal(*command, columns=80, cwd=cases)
        assert len([line for line in shown.lines if line.endswith(" exit code 3")]) == 10
        assert "…" not in shown.text


def test_wide_shows_whole_ids_and_changes_no_plain_output(jobs, real, cases):
    shown = on_terminal("task-list", "--wide", columns=300, cwd=cases)
    assert jobs[0] in shown.text
    for command in COMMANDS:
        plain = real(*command)
        assert real(*command, "--wide").stdout == plain.stdout
        header, *lines = plain.stdout.splitlines()
        assert header.split("\t")[0] in ("job", "folder")
        assert len([line for line in lines if LONG.strip() in line]) == 4
    listed = json.loads(real("task-list", "--json").stdout)["jobs"]
    assert {one["jobid"] for one in listed} == set(jobs)


def test_each_machine_is_one_line(real, queue, group, tmp_path):
    queue.sql(
        """
        INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,
                           agent_version, alive, agent_trouble)
        SELECT gen_random_uuid(), g.id, n.name, n.name || g.id, '', g.compute_epoch, 16, 64000,
               '26.11', true, n.trouble
        FROM groups g, (VALUES ('carbon', NULL), (repeat('n', 90), $2)) AS n (name, trouble)
        WHERE g.id = $1
        """,
        *(group.id, LONG),
    )
    for columns in WIDTHS:
        shown = on_terminal("group", "nodes", columns=columns, cwd=tmp_path)
        assert shown.returncode == 0, shown.text
        shown.check_width(columns)
        assert len(shown.lines) == 3
        [line] = [line for line in shown.lines if line.startswith("carbon ")]
        assert "16/16" in line
        assert "64/64" in line


def test_an_older_service_gives_one_line(environment, service, water):
    """The FAKE service does not know task-detail."""
    import leruli

    job = leruli.task_submit(str(water), "psi4", "1.5", "psi4")
    service.states[job] = ("running", None)
    assert on_terminal("task-status", cwd=water).lines == ["running"]


def test_all_details_of_a_job(real, queue, water, tmp_path):
    limits = ("--cores", "4", "--time", "90", "--disk", "500", "--shm-size", "256")
    done = real("task-submit", *limits, "psi4:1.5", "psi4", "input.dat", cwd=water)
    jobid = done.stdout.strip()
    assert jobid, done.stderr
    queue.sql(
        "UPDATE jobs SET state = 'failed', reason = 'its command ended with exit code 127', "
        "submitted_at = received_at + interval '2 minutes', running_at = received_at + "
        "interval '3 minutes', ended_at = received_at + interval '3 hours' WHERE id = $1::uuid",
        jobid,
    )
    shown = on_terminal("task-status", cwd=water)
    assert shown.returncode == 0
    shown.check_width(80)
    assert shown.lines[0] == "failed: its command ended with exit code 127"
    for line in (
        f"job *{jobid}",
        "name *water",
        "image *psi4:1.5",
        "command *psi4 input.dat",
        "limits *4 cores, 4,000 MB of memory, 90 min, 500 MB of disk, 256 MB of",
        " */dev/shm",
        r"received *20.*",
        r"submitted *20.* \(waited 2 min\)",
        r"running *20.* \(placed and prepared in 60 s\)|.*1 min\)",
        r"ended *20.* \(ran 2 h\)",
        "files *bucket .*",
    ):
        assert any(re.fullmatch(line, one.rstrip()) for one in shown.lines), (line, shown.text)
    assert "not in the image" in shown.text
    assert "joberr.txt" in shown.text
    # By a short id from another folder, the text names the task-get for its files.
    elsewhere = on_terminal("task-status", jobid[-8:], cwd=tmp_path)
    assert f"leruli task-get --job {jobid[-8:]}" in elsewhere.text
    # After a purge the command is still shown, and no task-get for the results.
    (water / "leruli.bucket").unlink()
    purged = on_terminal("task-status", cwd=water)
    purged.check_width(80)
    assert "psi4 input.dat" in purged.text
    assert "no leruli.bucket here" in purged.text
    assert "--job" not in purged.text
    # The output for scripts is unchanged.
    plain = real("task-status", cwd=water)
    assert plain.stdout == "failed: its command ended with exit code 127\n"
    assert "not in the image" in plain.stderr
    detail = json.loads(real("task-status", "--json", cwd=water).stdout)
    assert list(detail) == ["jobid", "status", "reason", "detail"]
    assert detail["detail"]["timelimit"] == 5400
