"""task-submit --batch and task_submit_many."""

import json

import pytest


@pytest.fixture
def cases(tmp_path):
    for number in range(120):
        folder = tmp_path / f"case-{number:03}"
        folder.mkdir()
        (folder / "input.dat").write_text(f"{number}\n")
    (tmp_path / "case-notes.txt").write_text("not a folder")
    return tmp_path


def submit(leruli, *more, **settings):
    return leruli("task-submit", *more, "psi4", "1.5", "psi4", "input.dat", **settings)


def test_submits_all_in_groups_of_fifty(leruli, cases, service):
    done = submit(leruli, "--batch", "case-*")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Submitted 120 in ")
    assert sorted(service.bulk_sizes) == [20, 50, 50]
    for folder in cases.glob("case-*/"):
        if folder.is_dir():
            bucket = (folder / "leruli.bucket").read_text().strip()
            assert (folder / "leruli.job").read_text().strip() == service.jobs[bucket]["id"]


def test_a_second_run_skips_what_was_submitted(leruli, cases, service):
    (cases / "case-003" / "run.sh").write_text("")
    first = submit(leruli, "--batch", "case-*")
    assert first.returncode == 1
    assert "Not submitted: case-003: case-003/run.sh has a reserved name" in first.stderr
    assert "1 failed" in first.stdout

    (cases / "case-003" / "run.sh").unlink()
    second = submit(leruli, "--batch", "case-*", "--json")
    report = json.loads(second.stdout)
    assert second.returncode == 0
    assert list(report["submitted"]) == ["case-003"]
    assert len(report["skipped"]) == 119
    assert len(service.jobs) == 120


def test_a_file_of_folders(leruli, cases, service):
    (cases / "list").write_text(
        "# the good ones\ncase-001\n\n  case-002  \n./case-001\n  # case-003\nabsent\n"
    )

    done = submit(leruli, "--batch", "list", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert sorted(report["submitted"]) == ["./case-001", "case-002"]
    assert report["failed"] == {"absent": "absent is not a folder."}
    assert len(service.jobs) == 2


def test_a_pattern_without_match(leruli, cases):
    done = submit(leruli, "--batch", "nothing-*")
    assert done.returncode == 4
    assert "nothing-*" in done.stderr


def test_each_refusal_is_reported(leruli, cases, service):
    refused = {}

    def refuse(job):
        if len(refused) < 2:
            refused[job["bucketid"]] = True
            return 422, "memorymb: no node has that much"
        return None

    service.refuse = refuse
    done = submit(leruli, "--batch", "case-*", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert len(report["submitted"]) == 118
    assert len(report["failed"]) == 2
    assert all("no node has that much" in why for why in report["failed"].values())


def test_a_bad_secret_ends_the_batch(leruli, cases, service):
    done = submit(leruli, "--batch", "case-*", "--json", LERULI_API_SECRET="lqa-wrong")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["exit_code"] == 3
    assert service.calls == ["group-token"]
    assert not list(cases.glob("*/leruli.bucket"))


def test_a_secret_revoked_meanwhile_ends_the_batch(leruli, cases, service):
    service.refuse = lambda job: (403, "The secret was revoked.")
    done = submit(leruli, "--batch", "case-*", "--json")

    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert len(report["failed"]) == 120
    assert service.bulk_sizes == [50]
    assert any(why.startswith("Not tried") for why in report["failed"].values())


def test_a_service_that_is_away_ends_the_batch_and_a_rerun_continues(leruli, cases, service):
    service.faults.extend([(503, {})] * 3)
    done = submit(leruli, "--batch", "case-*", "--json", LERULI_RETRY_SECONDS="0")
    service.faults.clear()
    assert done.returncode == 1
    assert len(json.loads(done.stdout)["failed"]) == 120
    staged = {path.read_text().strip() for path in cases.glob("*/leruli.bucket")}

    done = submit(leruli, "--batch", "case-*", "--json")

    assert done.returncode == 0
    assert staged <= set(service.jobs)
    assert len(service.jobs) == 120


def test_a_lost_bulk_answer_gives_each_job_once(leruli, cases, service, lost_answer):
    service.faults.append(lost_answer)
    done = submit(leruli, "--batch", "case-00*", "--json")
    assert done.returncode == 0, done.stderr
    assert len(service.jobs) == 10
    assert service.bulk_sizes == [10, 10]


def test_submit_many_reports_the_failed_ones(environment, cases, service):
    import leruli

    names = [str(cases / "case-000"), str(cases / "absent")]
    args = (["psi4"] * 2, ["1.5"] * 2, [["psi4", "input.dat"]] * 2, [1] * 2, [100] * 2, [60] * 2)
    failed = leruli.task_submit_many(names, *args)
    assert list(failed) == [names[1]]
    assert leruli.task_submit_many(names, *args)[names[0]] == "Directory already submitted."
    with pytest.raises(ValueError, match="same length"):
        leruli.task_submit_many(names, *args[:-1], [60])
