"""docs/users/python.md: the example on top runs as it stands there."""

from __future__ import annotations

import re
import time
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs" / "users" / "python.md"


def test_twenty_calculations_and_a_table(real, queue, group, store, tmp_path, monkeypatch, capsys):
    text = DOCS.read_text()
    [example] = re.findall(r"## Twenty calculations and a table\n\n```python\n(.*?)```", text, re.S)
    waited = []

    def end_all(seconds):
        """In the place of the machines."""
        waited.append(seconds)
        for job in queue.sql("SELECT name, bucket FROM jobs WHERE group_id = $1", group.id):
            energy = f"Total Energy = 1.0\nTotal Energy =    -98.{job['name'][-2:]}\n"
            store.put(job["bucket"], "output.dat", energy.encode())
        queue.sql(
            "UPDATE jobs SET state = 'completed', ended_at = now() WHERE group_id = $1", group.id
        )
        queue.sql(
            "UPDATE jobs SET state = 'failed', reason = 'exit code 1' "
            "WHERE group_id = $1 AND name = 'hf-0.82'",
            group.id,
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", end_all)

    exec(compile(example, str(DOCS), "exec"), {})  # noqa: S102  # it is ours

    assert waited == [10]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[0].split() == ["hf-0.80", "completed", "-98.80"]
    assert lines[1].split() == ["hf-0.82", "failed", "exit", "code", "1"]
    assert len([line for line in example.splitlines() if line]) <= 26
