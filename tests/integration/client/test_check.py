"""The queue checks a job before anything is uploaded or written."""

import json

import pytest
from batch_world import set_states

TOO_MANY = ("task-submit", "--cores", "200", "psi4:1.5", "psi4", "input.dat")


def untouched(folder):
    return not any(folder.glob("leruli.*"))


def test_a_job_too_large_for_all_machines_is_submitted_with_a_warning(real, water):
    done = real(*TOO_MANY, cwd=water)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning: No machine of the group can hold it now") == 1
    assert "--strict" in real("task-submit", "--help").stdout


def test_with_strict_it_is_refused_before_anything_is_written(real, water, queue, group):
    done = real(*TOO_MANY[:1], "--strict", *TOO_MANY[1:], cwd=water)
    assert done.returncode == 1
    assert "No machine of the group can hold it now" in done.stderr
    assert untouched(water)
    assert queue.sql("SELECT 1 FROM jobs WHERE group_id = $1", group.id) == []


def test_a_batch_gets_one_warning_for_equal_resources(real, cases):
    batch = ("task-submit", "--batch", "case-00*", *TOO_MANY[1:])
    strict = real(*batch[:3], "--strict", *batch[3:])
    assert strict.returncode == 1
    assert all(untouched(case) for case in cases.glob("case-00*"))
    done = real(*batch)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning:") == 1


def test_a_job_that_the_queue_would_refuse_leaves_no_trace(real, water):
    """D12: --memory 5 left leruli.bucket behind, and a bucket in the storage."""
    done = real("task-submit", "--memory", "5", "psi4:1.5", "psi4", "input.dat", cwd=water)
    assert done.returncode == 1
    assert "--memory: " in done.stderr
    assert "memorymb" not in done.stderr
    assert "Nothing was submitted" in done.stderr
    assert untouched(water)


def test_an_older_queue_is_not_asked(leruli, water, service):
    done = leruli(*TOO_MANY, cwd=water)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert service.calls.count("task-check") == 1


@pytest.mark.parametrize("name", ["--json", "--quiet"])
def test_a_warning_goes_only_to_standard_error(real, water, name):
    done = real(TOO_MANY[0], name, *TOO_MANY[1:], cwd=water)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout
    if name == "--json":
        assert "jobid" in json.loads(done.stdout)


class TestResubmission:
    """task-resubmit checks as task-submit does, before it moves anything."""

    @pytest.fixture
    def failed(self, real, queue, group, water):
        """A folder whose job has failed."""
        assert real("task-submit", "psi4:1.5", "psi4", cwd=water).returncode == 0
        set_states(queue, group, "failed", [water])
        return water

    def test_a_job_too_large_for_all_machines_gets_a_warning(self, real, failed):
        done = real("task-resubmit", "--cores", "200", cwd=failed)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Warning: No machine of the group can hold it now") == 1

    @pytest.mark.parametrize("options", [("--strict", "--cores", "200"), ("--memory", "5")])
    def test_a_refusal_leaves_the_folder_unchanged(self, real, failed, options):
        before = {path.name for path in failed.iterdir()}
        done = real("task-resubmit", *options, cwd=failed)
        assert done.returncode == 1
        assert "The folder is not submitted again: " in done.stderr
        assert {path.name for path in failed.iterdir()} == before

    def test_a_refused_folder_does_not_stop_the_batch(self, real, queue, group, cases):
        """Each folder has the limits of its last job."""
        for number, memory in (("000", "100"), ("001", "999")):
            folder = cases / f"case-{number}"
            assert real("task-submit", "--memory", memory, "psi4:1.5", "psi4", cwd=folder)
            set_states(queue, group, "failed", [folder])
        record = cases / "case-000" / "leruli.folder"
        record.write_text(record.read_text().replace('"memorymb":100', '"memorymb":5'))
        done = real("task-resubmit", "--batch", "case-00[01]/", "--json")
        assert done.returncode == 1
        document = json.loads(done.stdout)
        assert list(document["submitted"]) == ["case-001/"]
        assert "--memory: " in document["failed"]["case-000/"]
        assert not (cases / "case-000" / "leruli.history").exists()
