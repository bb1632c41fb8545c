"""--mail, where no mail is sent: it is refused, and nothing is lost."""

from __future__ import annotations

import pytest
from batch_world import MAIL, make_scan, submitting, with_mail
from folder_world import SUBMIT


@pytest.fixture
def scan(tmp_path):
    """A folder "scan" with three folders of a batch."""
    return make_scan(tmp_path)


def test_a_queue_without_a_mail_server_refuses_and_nothing_is_lost(real, water, scan, queue, group):
    for arguments, folder in ((SUBMIT, water), (submitting(), scan)):
        refused = real(*with_mail(arguments), cwd=folder)
        assert refused.returncode == 1
        said = " ".join(refused.stderr.split())
        assert "This queue sends no mail" in said
        assert "Nothing was submitted." in said
        assert not list(folder.rglob("leruli.bucket"))
        done = real(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    count = queue.sql("SELECT count(*) FROM jobs WHERE group_id = $1", group.id)
    assert count[0]["count"] == 4


def test_a_refused_resubmission_moves_nothing(real, queue, group, job):
    queue.sql("UPDATE jobs SET state = 'failed', ended_at = now() WHERE group_id = $1", group.id)
    before = sorted(job.rglob("*"))
    done = real("task-resubmit", *MAIL, cwd=job)
    assert done.returncode == 1
    assert "This queue sends no mail" in done.stderr
    assert sorted(job.rglob("*")) == before


def test_an_older_queue_does_not_get_the_job(leruli, water, service):
    done = leruli(*with_mail(SUBMIT), cwd=water)
    assert done.returncode == 1
    assert "The queue is older than this client and sends no mail" in " ".join(done.stderr.split())
    assert not service.jobs


def test_a_submission_that_cannot_say_that_it_is_complete_says_so(leruli, scan, service):
    asked = []

    def answer(body):
        asked.append(body["complete"])
        return (409, {"detail": "Too much."}) if body["complete"] else (200, {})

    service.scripted["batch-mail"] = answer
    done = leruli(*with_mail(submitting()), cwd=scan)
    assert done.returncode == 0, done.stderr
    assert asked == [False, True]
    assert "mail about the end of the batch may come an hour late" in " ".join(done.stderr.split())
    assert len(service.jobs) == 3
