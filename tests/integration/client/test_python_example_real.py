"""The first example of docs/users/python.md runs unchanged, and runs again."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs" / "users" / "python.md"


def test_twenty_calculations_and_a_table(real, queue, group, store, tmp_path, monkeypatch, capsys):
    text = DOCS.read_text()
    [example] = re.findall(r"## Twenty calculations and a table\n\n```python\n(.*?)```", text, re.S)

    def count():
        return queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)[0]["count"]

    def end_all():
        """End all jobs once they are submitted, in place of the nodes."""
        while count() < 20:
            time.sleep(0.2)
        for job in queue.sql("SELECT name, bucket FROM jobs WHERE group_id = $1", group.id):
            energy = f"Total Energy = 1.0\nTotal Energy =    -98.{job['name'][-2:]}\n"
            store.put(job["bucket"], "output.dat", energy.encode())
        # In one statement: the example looks at a job as soon as it has ended.
        queue.sql(
            "UPDATE jobs SET ended_at = now(), "
            "state = CASE name WHEN 'hf-0.82' THEN 'failed' ELSE 'completed' END::job_state, "
            "reason = CASE name WHEN 'hf-0.82' THEN 'exit code 1' END WHERE group_id = $1",
            group.id,
        )

    monkeypatch.chdir(tmp_path)
    nodes = threading.Thread(target=end_all)
    nodes.start()

    exec(compile(example, str(DOCS), "exec"), {})  # noqa: S102  # our own document

    nodes.join()
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert len(lines) == 20
    assert lines[0].split() == ["hf-0.80", "completed", "-98.80"]
    assert lines[1].split() == ["hf-0.82", "failed", "exit", "code", "1"]
    assert len([line for line in example.splitlines() if line]) <= 26

    # Run again, it finds its folders submitted and prints the same table.
    exec(compile(example, str(DOCS), "exec"), {})  # noqa: S102  # our own document

    assert capsys.readouterr().out == printed
    assert count() == 20
