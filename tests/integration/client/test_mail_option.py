"""--mail, from the command line to a real queue that sends mail."""

from __future__ import annotations

import json

import pytest
from batch_world import MAIL, begin, make_scan, set_states, submitting, with_mail
from folder_world import SUBMIT

SERVER = {"SMTP_HOST": "127.0.0.1", "SMTP_FROM": "queue@lab.example"}


@pytest.fixture(scope="module")
def mailing(queue):
    """The queue, with a mail server in its settings. No dispatcher sends."""
    with queue.restarted_with(**SERVER):
        yield queue


@pytest.fixture
def scan(tmp_path):
    """A folder "scan" with three folders of a batch."""
    return make_scan(tmp_path)


def requests_of(queue, group):
    return queue.sql(
        "SELECT m.batch_id::text, m.address, m.complete, b.name,"
        " (SELECT count(*) FROM jobs j WHERE j.batch = b.number) AS jobs"
        " FROM batch_mails m JOIN users u ON u.id = m.user_id"
        " LEFT JOIN batches b ON b.user_id = m.user_id AND b.id = m.batch_id"
        " WHERE u.group_id = $1 ORDER BY b.number",
        group.id,
    )


def test_a_batch_asks_before_it_begins_and_tells_when_it_is_complete(mailing, real, scan, group):
    done = real(*with_mail(submitting()), "--json", cwd=scan)
    assert done.returncode == 0, done.stderr
    [asked] = requests_of(mailing, group)
    assert asked["batch_id"] == json.loads(done.stdout)["batch"]["batchid"]
    assert (asked["address"], asked["complete"]) == ("ada@example.org", True)
    assert (asked["name"], asked["jobs"]) == ("scan", 3)


def test_a_single_job_gets_a_batch_of_its_own(mailing, real, water, group):
    done = real(*with_mail(SUBMIT), cwd=water)
    assert done.returncode == 0, done.stderr
    [asked] = requests_of(mailing, group)
    assert (asked["name"], asked["jobs"], asked["complete"]) == ("water", 1, True)
    mailing.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE group_id = $1", group.id)
    again = real("task-resubmit", *MAIL, cwd=water)
    assert again.returncode == 0, again.stderr
    assert [one["jobs"] for one in requests_of(mailing, group)] == [1, 1]


def test_a_resubmission_joins_the_batch_and_asks_again(mailing, real, scan, group):
    assert real(*submitting(), cwd=scan).returncode == 0
    assert requests_of(mailing, group) == []
    set_states(mailing, group, "failed", sorted(scan.glob("case-*")))
    done = real(*with_mail(submitting("task-resubmit")[:3]), cwd=scan)
    assert done.returncode == 0, done.stderr
    [asked] = requests_of(mailing, group)
    assert (asked["jobs"], asked["complete"]) == (6, True)


def test_a_batch_that_is_not_complete_is_not_said_to_be(mailing, real, scan, group):
    for number in range(3, 200):
        (scan / f"case-{number}").mkdir()
        (scan / f"case-{number}" / "input.dat").write_text(f"{number}\n")
    process = begin(scan, *with_mail(submitting()))
    while not requests_of(mailing, group):
        assert process.poll() is None
    process.kill()
    process.communicate()
    [asked] = requests_of(mailing, group)
    assert not asked["complete"]
    done = real(*with_mail(submitting()), cwd=scan)
    assert done.returncode == 0, done.stderr
    [asked] = requests_of(mailing, group)
    assert (asked["jobs"], asked["complete"]) == (200, True)


def test_a_wrong_address_is_refused_before_anything_is_touched(mailing, real, water):
    for address in ("", "ada", "ada@example.org,bob@example.org", "ada@example.org\nBcc: b@c"):
        done = real(SUBMIT[0], "--mail", address, *SUBMIT[1:], cwd=water)
        assert done.returncode == 1
        assert "The address for mail is not one" in done.stderr
        assert not list(water.rglob("leruli.*"))
