"""Shared containers of a whole stack: two users' short jobs on one real node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_world import FINAL, StackOfTest, running_stack, wait_for

SETTINGS = {"LERULI_QUEUE_SLOT_MAX_S": "300"}
JOBS_OF_EACH = 20
# Says which job ran where, and what earlier jobs left there.
COMMAND = (
    "echo $LERULI_JOBID >>ran; cat /etc/hostname >host; cat name; "
    "ls /tmp /rundir >found; cat /root/names >names 2>/dev/null; cat name >>/root/names; true"
)


@pytest.fixture(scope="module")
def slots() -> Iterator[StackOfTest]:
    with running_stack(SETTINGS) as made:
        yield made


def test_forty_jobs_of_two_users_never_meet_in_a_container(
    slots: StackOfTest, tmp_path: Path
) -> None:
    made = slots.call(
        "group-create-user", adminsecret=slots.secrets["admin_secret"], name="eve", admin=False
    )
    assert made.status_code == 200, made.text
    settings = {"ada": {}, "eve": {"LERULI_API_SECRET": str(made.json())}}
    options = ("--share-container", "--memory", "300", "--batch", "job-*")
    for user, own in settings.items():
        for number in range(JOBS_OF_EACH):
            folder = tmp_path / user / f"job-{number}"
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{user}-{number}\n")
        image = ("leruli-test", "1", COMMAND)
        done = slots.leruli(tmp_path / user, "task-submit", *options, *image, **own)
        assert done.returncode == 0, done.stderr
    wait_for(
        lambda: (
            slots.fetch("SELECT FROM jobs WHERE state::text <> ALL($1::text[])", list(FINAL)) == []
        ),
        seconds=240,
        what="all jobs have ended",
    )
    hosts: dict[str, Counter[str]] = {}
    for user, own in settings.items():
        done = slots.leruli(tmp_path / user, "task-get", "--batch", "job-*", **own)
        assert done.returncode == 0, done.stderr + done.stdout
        hosts[user] = Counter()
        for number in range(JOBS_OF_EACH):
            folder = tmp_path / user / f"job-{number}"
            assert (folder / "joblog.txt").read_text() == f"{user}-{number}\n"
            # Once, as itself.
            jobid = (folder / "leruli.job").read_text().strip()
            assert (folder / "ran").read_text() == f"{jobid}\n"
            assert "joblog.txt" in (folder / "found").read_text()
            names = (folder / "names").read_text().split()
            assert all(name.startswith(f"{user}-") for name in names)
            hosts[user][(folder / "host").read_text()] += 1
    assert not set(hosts["ada"]) & set(hosts["eve"])
    # Most jobs ran in the container of a job before.
    assert sum(len(of_user) for of_user in hosts.values()) <= JOBS_OF_EACH
    attempts = slots.fetch("SELECT count(*) AS all, count(slot_job) AS further FROM attempts")
    assert attempts[0]["further"] >= JOBS_OF_EACH
    assert {row["state"] for row in slots.fetch("SELECT state::text FROM jobs")} == {"completed"}
