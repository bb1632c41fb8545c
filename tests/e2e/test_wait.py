"""Waiting for jobs on a real stack, as a user's script does."""

from __future__ import annotations

import json
from pathlib import Path

from e2e_world import StackOfTest


def test_a_script_waits_for_its_jobs(stack: StackOfTest, folder: Path) -> None:
    (folder / "input.txt").write_text("1\n")
    done = stack.leruli(
        folder, "task-submit", "--wait", "--time", "2", "leruli-test", "1", "sleep 2; exit 3"
    )
    assert done.returncode == 10, done.stderr
    jobid, state = done.stdout.splitlines()
    assert jobid == (folder / "leruli.job").read_text().strip()
    assert state == "failed: its command ended with exit code 3"

    for number in range(3):
        case = folder / f"case-{number}"
        case.mkdir()
        (case / "input.txt").write_text(f"{number}\n")
    submit = ("task-submit", "--batch", "case-*", "--time", "2", "leruli-test", "1")
    done = stack.leruli(folder, *submit, "sleep 2; cat input.txt > output.txt")
    assert done.returncode == 0, done.stderr
    got = stack.leruli(folder, "task-get", "--wait", "--batch", "case-*", "--json")
    assert got.returncode == 0, got.stderr
    assert {one["status"] for one in json.loads(got.stdout)["jobs"]} == {"completed"}
    assert [(folder / f"case-{number}" / "output.txt").read_text() for number in range(3)] == [
        "0\n",
        "1\n",
        "2\n",
    ]

    answer = stack.call("task-events", secret=stack.user["LERULI_API_SECRET"], cursor="1-0")
    events = answer.json()["events"]
    of_first = [event for event in events if event["jobid"] == jobid]
    of_first.sort(key=lambda event: int(event["number"]))
    assert [event["state"] for event in of_first] == ["submitted", "running", "failed"]
    assert of_first[-1]["exitcode"] == 3
