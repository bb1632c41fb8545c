"""Short ids, names and folders in place of a job id."""

import json

import pytest

NEW = "01a23272-60c0-7000-8000-0123456789ab"
OLD = "01a23272-60c0-7000-8000-ba9876543210"


@pytest.fixture
def job(environment, water, service):
    import leruli

    return leruli.task_submit(str(water), "psi4", "1.5", "psi4 input.dat")


def knows(service, jobs, more=False):
    """Have the FAKE service find these jobs."""
    asked = []

    def answer(body):
        asked.append(body)
        return 200, {"jobs": jobs, "more": more}

    service.scripted["task-resolve"] = answer
    return asked


def entry(jobid, name="water", state="received"):
    return {"jobid": jobid, "name": name, "state": state, "receivedat": "2026-11-24T08:30:00Z"}


def test_a_folder_stands_for_its_job(leruli, service, job, water):
    for name in ("water", "water/", str(water)):
        assert leruli("task-status", name).stdout == "received\n"
    assert leruli("task-status", ".", cwd=water).stdout == "received\n"
    assert "task-resolve" not in service.calls


def test_a_folder_whose_submission_was_interrupted_stands_for_its_job(leruli, job, water):
    (water / "leruli.job").unlink()
    assert leruli("task-cancel", "water").stdout == "cancelled: cancelled by its owner\n"


@pytest.mark.parametrize("reference", ["23456789ab", "a name", "basis sets"])
def test_a_short_id_or_a_name_is_looked_up(leruli, service, water, reference):
    """The folder `basis sets` is there and has no job."""
    service.states[NEW] = ("running", None)
    asked = knows(service, [entry(NEW)])
    done = leruli("task-status", reference, cwd=water)
    assert (done.returncode, done.stdout) == (0, "running\n")
    assert asked[0]["reference"] == reference


def test_a_name_of_several_jobs_is_refused_with_all_of_them(leruli, service):
    service.states |= {NEW: ("running", None), OLD: ("running", None)}
    knows(service, [entry(NEW), entry(OLD, state="failed")], more=True)
    done = leruli("task-cancel", "water")
    assert done.returncode == 1
    assert "Nothing was done" in done.stderr
    for shown in (NEW, OLD, "failed, received ", " d ago, water", "and more"):
        assert shown in done.stderr
    assert service.states[NEW] == ("running", None)


def test_an_unknown_reference_is_an_error(leruli, service, water):
    knows(service, [])
    done = leruli("task-status", "watr")
    assert done.returncode == 4
    assert "'watr' is not a job of yours" in done.stderr
    assert "The folder of that name has no job" in leruli("task-status", "water").stderr


def test_an_older_service_finds_full_ids_and_folders_only(leruli, service, job):
    assert leruli("task-status", job).returncode == 0
    done = leruli("task-status", job[-8:])
    assert done.returncode == 4
    assert "older than the client" in done.stderr
    # Another service may have ids of another form.
    service.states["job-17"] = ("completed", None)
    assert leruli("task-status", "job-17").stdout == "completed\n"


def test_the_real_service_finds_short_ids_and_names(real, water, tmp_path):
    jobid = real("task-submit", "psi4:1.5", "psi4", "input.dat", cwd=water).stdout.strip()
    other = tmp_path / "elsewhere" / "water"
    other.mkdir(parents=True)
    second = real("task-submit", "psi4:1.5", "psi4", cwd=other).stdout.strip()
    for reference in (jobid[-8:], jobid[-4:], jobid[-12:]):
        found = real("task-status", "--json", reference, cwd=tmp_path).stdout
        assert json.loads(found)["jobid"] == jobid
    done = real("task-cancel", "water", cwd=other)
    assert done.returncode == 1
    assert jobid in done.stderr
    assert second in done.stderr
    assert real("task-status", "--json", "no such job").returncode == 4
