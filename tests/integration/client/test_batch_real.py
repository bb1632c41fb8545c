"""Submitting batches to the real service and storage, interrupted anywhere and continued."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest
from batch_world import COUNT, begin, check_each_once, submitting, wait_for


@pytest.mark.parametrize("seed", [1, 2])
def test_after_repeated_kills_every_folder_is_submitted_once(
    real, cases, queue, group, store, seed
):
    chance = random.Random(seed)  # noqa: S311
    for _ in range(6):
        process = begin(cases, *submitting())
        claimed = len(list(cases.glob("*/leruli.bucket")))
        goal = min(COUNT, claimed + chance.randint(1, COUNT // 3))
        wait_for(
            lambda goal=goal, process=process: (
                process.poll() is not None or len(list(cases.glob("*/leruli.bucket"))) >= goal
            )
        )
        time.sleep(chance.random() * 0.2)
        process.kill()
        process.communicate()
        # Accepted jobs run at once: put the log that their node would have sent.
        for row in queue.sql("SELECT bucket FROM jobs WHERE group_id = $1", group.id):
            store.put(row["bucket"], "joblog.txt", b"so far")

    done = real(*submitting(), "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["submitted"]) + len(report["skipped"]) == COUNT
    check_each_once(cases, queue, group)
    again = real(*submitting())
    assert f"{COUNT} skipped" in again.stdout
    assert f"Going on. Submitted before: {COUNT} of {COUNT} folders." in again.stderr


def test_ctrl_c_says_what_is_left(real, cases, queue, group):
    count = 10 * COUNT  # enough that the signal comes before the end
    for number in range(COUNT, count):
        (cases / f"case-{number:04}").mkdir()
    process = begin(cases, *submitting())
    wait_for(lambda: len(list(cases.glob("*/leruli.job"))) >= 50)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    there = len(list(cases.glob("*/leruli.job")))
    assert f"{count - there} of {count} folders left" in err
    assert "same command again" in err
    assert real(*submitting()).returncode == 0
    check_each_once(cases, queue, group, count)


def test_a_service_that_dies_in_the_middle(real, cases, queue, group):
    process = begin(cases, *submitting(), "--json", LERULI_RETRY_SECONDS="0")
    wait_for(lambda: len(list(cases.glob("*/leruli.job"))) >= 1)
    queue.kill()
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        queue.start()
    if process.returncode == 0:  # it ended before the kill
        assert len(json.loads(out)["submitted"]) == COUNT
    else:
        assert process.returncode == 1
        assert json.loads(out)["failed"]
    assert real(*submitting()).returncode == 0
    check_each_once(cases, queue, group)


def test_a_service_that_comes_back_is_waited_for(real, cases, queue, group):
    process = begin(cases, *submitting())
    wait_for(lambda: len(list(cases.glob("*/leruli.bucket"))) >= 1)
    queue.kill()
    time.sleep(1)
    queue.start()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    check_each_once(cases, queue, group)


def test_a_storage_that_comes_back_is_waited_for(real, cases, queue, group, s3):
    process = begin(cases, *submitting())
    wait_for(lambda: list(cases.glob("*/leruli.bucket")))
    s3.kill()
    try:
        time.sleep(8)  # longer than the SDK retries
    finally:
        s3.start()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("The object storage at ") == 1, err
    assert "did not answer" in err
    assert "Waiting for it, for up to 120 s." in err
    check_each_once(cases, queue, group)


def test_two_clients_do_not_work_on_one_batch_at_once(real, cases, queue, group):
    first = begin(cases, *submitting())
    wait_for(lambda: list(cases.glob("*/leruli.bucket")))
    first.send_signal(signal.SIGSTOP)
    second = real(*submitting())
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert second.returncode == 1
    assert "Another leruli" in second.stderr
    check_each_once(cases, queue, group)


def test_only_a_folder_without_both_files_is_submitted_again(real, cases, queue, group):
    assert real(*submitting()).returncode == 0
    (cases / "case-000" / "leruli.job").unlink()
    (cases / "case-001" / "leruli.job").write_text("")
    for name in ("leruli.job", "leruli.bucket"):
        (cases / "case-002" / name).unlink()

    done = real(*submitting(), "--json")

    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["submitted"]) == ["case-002"]
    assert queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)[0][0] == COUNT + 1


def test_a_database_that_hangs_is_waited_for(real, cases, queue, group, submitted):
    """The service then answers 503 with Retry-After."""
    more = 4 * COUNT  # enough that the database hangs before the end
    for number in range(more):
        (cases / f"new-{number}").mkdir()
    with queue.restarted_with(DATABASE_TIMEOUT_S=1, BUSY_AFTER_S=1):
        clients = [begin(cases, *submitting(pattern="new-*"))]
        wait_for(lambda: list(cases.glob("new-*/leruli.job")))
        with queue.postgres.standing_still():
            clients += [
                begin(cases, verb, "--batch", "case-*") for verb in ("task-status", "task-get")
            ]
            time.sleep(6)
        for client in clients:
            _, err = client.communicate(timeout=120)
            assert client.returncode == 0, err
            assert "The queue is busy (HTTP 503); trying again" in err
    assert len(list(cases.glob("new-*/leruli.job"))) == more
    jobs = queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)
    assert jobs[0][0] == COUNT + more
