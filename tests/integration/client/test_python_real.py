"""`import leruli` does what the command line does, at the real service and the real storage."""

from __future__ import annotations

import shutil
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from folder_world import INPUT, FolderOfTest, make_folder

import leruli
from leruli.folder.job_folder import JobFolder

IMAGE = ("psi4", "1.5")
WHAT = (*IMAGE, "psi4 input.dat")
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    """A test says which warnings it expects."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", leruli.LeruliWarning)
        yield


@pytest.fixture
def submit(real, queue, store, tmp_path, monkeypatch):
    """Make a folder and submit it from Python."""
    monkeypatch.chdir(tmp_path)

    def run(path="mol-0.96", /, **options):
        make_folder(tmp_path / path)
        with warnings.catch_warnings():  # the group has no machine
            warnings.simplefilter("ignore", leruli.LeruliWarning)
            leruli.task_submit(path, *WHAT, **options)
        return FolderOfTest(tmp_path / path, store, queue)

    return run


@pytest.fixture
def folder(submit):
    return submit()


def copy_of(folder, name="mol-1.00"):
    copy = folder.path.with_name(name)
    shutil.copytree(folder.path, copy, symlinks=True)
    (copy / "input.dat").write_text("r = 1.00\n")
    return copy


def names(path):
    return {str(one.relative_to(path)) for one in path.rglob("*")}


class TestSubmission:
    def test_priority_name_and_limits(self, submit, queue):
        folder = submit(
            priority=7, name="water, HF", cores=2, memorymb=100, timeseconds=90, shmmb=50
        )
        [row] = queue.sql("SELECT * FROM jobs WHERE id = $1", folder.job)
        assert (row["priority"], row["name"], row["cores"]) == (7, "water, HF", 2)
        assert (row["memory_mb"], row["time_limit_s"], row["shm_mb"]) == (100, 90, 50)
        assert leruli.task_detail("mol-0.96").shm_mb == 50
        assert not leruli.task_detail("mol-0.96").share_container

    def test_a_retry_rule(self, submit, queue):
        rule = {"retry": 3, "most_memorymb": 8000, "most_timeseconds": 900}
        folder = submit(timeseconds=90, **rule, retry_on=["exit=1", "time-limit"])
        [row] = queue.sql("SELECT * FROM jobs WHERE id = $1", folder.job)
        assert (row["most_retries"], row["retry_on"]) == (3, "exit=1,time-limit")
        assert (row["most_memory_mb"], row["most_time_limit_s"]) == (8000, 900)

    def test_a_job_too_large_for_all_machines_is_warned_of_or_refused(self, real, tmp_path):
        path = tmp_path / "mol"
        make_folder(path)
        before = names(path)
        with pytest.raises(leruli.RefusedError, match="Without strict=True"):
            leruli.task_submit(path, *WHAT, cores=200, strict=True)
        with pytest.raises(leruli.RefusedError, match="memorymb"):
            leruli.task_submit(path, *WHAT, memorymb=5)
        assert names(path) == before
        with pytest.warns(leruli.LeruliWarning, match="No machine of the group") as warned:
            leruli.task_submit(path, *WHAT, cores=200)
        assert warned[0].filename == __file__

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"cores": "2"}, "cores has to be a whole number, not '2'."),
            ({"memorymb": 4e3}, "memorymb has to be a whole number, not 4000.0."),
            ({"timeseconds": None}, "timeseconds has to be given, not None."),
            ({"priority": True}, "priority has to be a whole number, not True."),
            ({"share_container": 1}, "share_container has to be True or False, not 1."),
            ({"name": 3}, "name has to be a text, not 3."),
            ({"retry": "3"}, "retry has to be a whole number, not '3'."),
            ({"retry_on": 1}, "retry_on has to be a list, not 1."),
        ],
    )
    def test_a_wrong_type_is_a_type_error(self, real, tmp_path, options, told):
        make_folder(tmp_path / "mol")
        with pytest.raises(TypeError) as caught:
            leruli.task_submit(tmp_path / "mol", *WHAT, **options)
        assert str(caught.value) == told
        with pytest.raises(TypeError, match="command has to be a text or a list of texts"):
            leruli.task_submit(tmp_path / "mol", *IMAGE, b"psi4")
        with pytest.raises(TypeError, match="directory has to be the path of a folder, not 3"):
            leruli.task_submit(3, *WHAT)

    @pytest.mark.parametrize("name", ["two\nlines", "x" * 201])
    def test_a_name_that_the_queue_does_not_take(self, real, tmp_path, name):
        make_folder(tmp_path / "mol")
        with pytest.raises(leruli.RefusedError, match="cannot be the name of a job"):
            leruli.task_submit(tmp_path / "mol", *WHAT, name=name)

    def test_a_copy_and_an_edited_folder(self, folder):
        copy = copy_of(folder)
        with pytest.raises(leruli.CopiedFolderError, match=r"holds the job of mol-0\.96"):
            leruli.task_submit("mol-1.00", *WHAT)
        with pytest.warns(leruli.LeruliWarning, match="No machine"):
            jobid = leruli.task_submit("mol-1.00", *WHAT, new=True)
        assert JobFolder(str(copy)).job() == jobid != folder.job
        (folder.path / "input.dat").write_text("r = 1.50\n")
        with pytest.raises(leruli.EditedFolderError, match=r"input\.dat, link\.dat changed"):
            leruli.task_submit("mol-0.96", *WHAT)

    def test_many_reports_copies_edited_and_refused_folders(self, submit, tmp_path):
        original, edited = submit(), submit("edited")
        copy_of(original)
        (edited.path / "input.dat").write_text("r = 1.50\n")
        make_folder(tmp_path / "fresh")
        make_folder(tmp_path / "greedy")
        make_folder(tmp_path / "absent")
        folders = ["mol-0.96", "mol-1.00", "edited", "fresh", "greedy", "absent"]
        versions = ["1.5"] * 5 + ["9.9"]
        memory = [100, 100, 100, 100, 5, 100]
        rest = ([1] * 6, memory, [60] * 6)
        commands = ["psi4"] * 6

        with pytest.warns(leruli.LeruliWarning, match="No machine"):
            failed = leruli.task_submit_many(folders, ["psi4"] * 6, versions, commands, *rest)

        assert set(failed) == set(folders) - {"fresh"}
        assert failed["mol-0.96"] == "Directory already submitted."
        assert "holds the job of mol-0.96" in failed["mol-1.00"]
        assert "input.dat, link.dat changed" in failed["edited"]
        assert "memorymb" in failed["greedy"]
        assert "not published" in failed["absent"]
        assert not (tmp_path / "greedy" / "leruli.bucket").exists()
        with pytest.raises(TypeError, match="cores has to be a whole number"):
            leruli.task_submit_many(["fresh"], *[["x"]] * 4, [1], [1])


class TestResubmission:
    def test_only_the_given_options_change(self, submit, queue):
        folder = submit(cores=2, memorymb=100, name="water")
        last = folder.job
        with pytest.raises(leruli.RefusedError, match="not submitted again: received"):
            leruli.task_resubmit("mol-0.96")
        folder.ends("failed", "exit code 1")
        before = names(folder.path)
        with pytest.raises(leruli.RefusedError, match="memorymb"):
            leruli.task_resubmit("mol-0.96", memorymb=5)
        with pytest.raises(leruli.NotFoundError, match="not published"):
            leruli.task_resubmit("mol-0.96", version="9.9")
        assert names(folder.path) == before
        with pytest.warns(leruli.LeruliWarning, match="No machine"):
            jobid = leruli.task_resubmit("mol-0.96", memorymb=200, failed_only=True)
        assert folder.job == jobid
        assert (folder.path / "leruli.history" / last / "leruli.job").exists()
        [row] = queue.sql("SELECT * FROM jobs WHERE id = $1", jobid)
        assert (row["cores"], row["memory_mb"], row["name"]) == (2, 200, "water")
        folder.ends()
        with pytest.raises(leruli.RefusedError, match="not submitted again: completed"):
            leruli.task_resubmit("mol-0.96", failed_only=True)
        with pytest.raises(leruli.NotFoundError, match="is not a folder"):
            leruli.task_resubmit("nowhere")

    def test_many(self, submit):
        failed, waiting = submit("failed"), submit("waiting")
        copy_of(waiting)
        failed.ends("failed", "exit code 1")
        last = failed.job
        with pytest.warns(leruli.LeruliWarning, match="No machine"):
            found = leruli.task_resubmit_many(["failed", "waiting", "mol-1.00"], cores=2)
        assert found.done == ("failed",)
        assert failed.job != last
        assert found.skipped == {"waiting": "received"}
        assert "holds the job of waiting" in found.failed["mol-1.00"]


class TestFollowing:
    def test_status_by_any_name(self, folder):
        received = {"status": "received", "reason": None}
        for named in (folder.job, folder.job[-8:], "mol-0.96", folder.path):
            assert {**leruli.task_status(named), "reason": None} == received
            assert leruli.task_bucket(named) == folder.bucket
        copy_of(folder)
        for function in (leruli.task_status, leruli.task_cancel, leruli.task_detail):
            with pytest.raises(leruli.CopiedFolderError):
                function("mol-1.00")
        (folder.path / "input.dat").write_text("r = 1.50\n")
        with pytest.warns(leruli.LeruliWarning, match=r"input\.dat, link\.dat changed"):
            leruli.task_status("mol-0.96")

    def test_many_states_in_the_order_of_the_request(self, submit, tmp_path):
        first, edited, done = submit("first"), submit("edited"), submit("done")
        copy_of(first, "copy")
        (edited.path / "input.dat").write_text("r = 1.50\n")
        done.ends("failed", "exit code 3")
        (tmp_path / "empty").mkdir()
        asked = ["copy", done.job, Path("first"), "edited", "empty", "nonsense", done.job[-8:]]

        found = leruli.task_status_many(asked)

        assert [one.state for one in found] == [
            *("copy", "failed", "received", "edited", "not submitted", "unknown", "failed")
        ]
        assert [one.is_active for one in found] == [*(True, False, True, True, False, False, False)]
        assert found[1] == leruli.JobStatus(done.job, done.job, "failed", "exit code 3", "failed")
        assert "holds the job of first" in str(found[0].reason)
        assert "not a job of yours" in str(found[5].reason)
        with pytest.raises(TypeError, match="jobs has to be a list"):
            leruli.task_status_many("first")

    def test_cancelling_many_leaves_the_original_of_a_copy(self, submit):
        first, second = submit("first"), submit("second")
        copy_of(first, "copy")
        found = leruli.task_cancel_many(["copy", second.job])
        assert [(one.state, one.job_state) for one in found] == [
            *(("copy", None), ("cancelled", "cancelled"))
        ]
        assert leruli.task_status("first")["status"] == "received"
        assert leruli.task_cancel_waiting() == 1
        assert leruli.task_status(first.job)["status"] == "cancelled"

    def test_a_list_of_jobs_with_fields(self, submit, monkeypatch):
        jobs = [submit(f"mol-{number}", cores=number + 1) for number in range(3)]
        jobs[0].ends("failed", "exit code 3")
        monkeypatch.setattr("leruli.service.paging._LARGEST_PAGE", 2)  # so that there are two pages
        listed = list(leruli.task_list())
        assert [job.jobid for job in listed] == [one.job for one in reversed(jobs)]
        [failed] = leruli.task_list(states="failed")
        assert (failed.name, failed.reason, failed.cores) == ("mol-0", "exit code 3", 1)
        assert failed.received_at.tzinfo is not None
        assert not failed.is_active
        assert len(list(leruli.task_list(limit=2, states=["failed", "received"]))) == 2
        assert [job.name for job in leruli.task_list(after=jobs[1].job)] == ["mol-0"]
        now = datetime.now(UTC)
        for since in (timedelta(hours=1), now - timedelta(hours=1), "1h", (now - DAY).date()):
            assert len(list(leruli.task_list(since=since))) == 3
        assert list(leruli.task_list(until=timedelta(hours=1))) == []
        with pytest.raises(leruli.RefusedError, match="Did you mean running"):
            leruli.task_list(states="runing")
        with pytest.raises(leruli.RefusedError, match="since: 'soon' is not a time"):
            leruli.task_list(since="soon")
        with pytest.raises(TypeError, match="since has to be a datetime"):
            leruli.task_list(since=3)

    def test_all_details_of_a_job(self, submit, queue):
        folder = submit(cores=2, timeseconds=90, diskmb=500, priority=3)
        queue.sql(
            "UPDATE jobs SET state = 'failed', exit_code = 3, running_at = received_at, ended_at = "
            "received_at + interval '90 seconds' WHERE id = $1",
            folder.job,
        )
        job = leruli.task_detail("mol-0.96")
        assert isinstance(job, leruli.Job)
        assert (job.jobid, job.state, job.exit_code) == (folder.job, "failed", 3)
        assert (job.code, job.version, job.command) == WHAT
        assert (job.cores, job.memory_mb, job.disk_mb) == (2, 4000, 500)
        assert (job.time_limit_seconds, job.priority, job.run_seconds) == (90, 3, 90.0)
        assert (job.attempts, job.attempt_count, job.node) == ((), 0, None)
        assert leruli.task_detail(folder.job).command is None
        with pytest.raises(AttributeError):
            job.state = "completed"


class TestResults:
    def test_of_a_job_by_any_name(self, folder, tmp_path):
        folder.ends(output_dat=b"E\n")
        for number, (arguments, options) in enumerate(
            (
                ((folder.bucket,), {}),
                ((folder.job,), {}),
                ((folder.job[-8:],), {}),
                ((), {"jobid": "mol-0.96"}),
            )
        ):
            target = tmp_path / f"target-{number}"
            target.mkdir()
            assert leruli.task_get(target, *arguments, **options) == ["output.dat"]
            assert (target / "output.dat").read_text() == "E\n"
        assert leruli.task_get("mol-0.96") == ["output.dat"]
        with pytest.raises(leruli.RefusedError, match="bucket or jobid, not both"):
            leruli.task_get("mol-0.96", folder.bucket, jobid=folder.job)
        with pytest.raises(leruli.BucketMissingError):
            leruli.task_get("mol-0.96", "no-such-bucket")

    def test_a_failed_job_gives_a_warning(self, folder):
        folder.ends("failed", "its command ended with exit code 127", output_dat=b"E\n")
        with pytest.warns(leruli.LeruliWarning, match="not completed.*not in the image"):
            assert leruli.task_get("mol-0.96") == ["output.dat"]

    def test_local_changes_stay_and_are_reported(self, folder, tmp_path):
        folder.ends(output_dat=b"E\n")
        (folder.path / "output.dat").write_text("mine")
        (folder.path / "input.dat").write_text("r = 1.50\n")
        with pytest.warns(leruli.LeruliWarning) as warned:
            got = leruli.task_get("mol-0.96", with_input=True)
        beside = f".leruli-{folder.job[-8:]}"
        assert got[0] == f"output.dat{beside}"
        assert f"input.dat{beside}" in got
        assert folder.beside("input.dat").read_bytes() == INPUT
        told = " ".join(str(one.message) for one in warned)
        assert "output.dat stays as it is here" in told
        assert "input.dat, link.dat changed after the job of mol-0.96 was submitted" in told
        with pytest.warns(leruli.LeruliWarning, match=r"input\.dat, link\.dat changed"):
            leruli.task_get("mol-0.96", overwrite=True)
        assert folder.read("output.dat") == "E\n"

    def test_a_copy_gets_nothing(self, folder):
        folder.ends(output_dat=b"E\n")
        copy = copy_of(folder)
        before = names(copy)
        with pytest.raises(leruli.CopiedFolderError):
            leruli.task_get("mol-1.00")
        assert names(copy) == before

    def test_many(self, submit):
        done, waiting = submit("done"), submit("waiting")
        copy_of(done)
        done.ends(output_dat=b"E\n")
        found = leruli.task_get_many(["done", "waiting", "mol-1.00"])
        assert found.done == ("done",)
        assert found.skipped == {"waiting": "received"}
        assert list(found.failed) == ["mol-1.00"]
        assert done.read("output.dat") == "E\n"
        assert leruli.task_get_many(["done"]).skipped == {"done": "fetched before"}
        (done.path / "output.dat").unlink()
        assert leruli.task_get_many(["done"], again=True).done == ("done",)
        assert done.read("output.dat") == "E\n"
        (done.path / "input.dat").write_text("r = 1.50\n")
        assert "input.dat, link.dat changed" in leruli.task_get_many(["done"]).to_look_at["done"]
        waiting.ends()


class TestPurging:
    def test_only_what_was_fetched(self, folder, store):
        bucket = folder.bucket
        with pytest.raises(leruli.RefusedError, match="would fail"):
            leruli.task_purge("mol-0.96")
        folder.ends(output_dat=b"E\n")
        with pytest.raises(leruli.RefusedError, match=r"are not in mol-0\.96"):
            leruli.task_purge("mol-0.96")
        with pytest.raises(leruli.RefusedError):
            leruli.task_purge(".", jobid=folder.job)
        copy_of(folder)
        with pytest.raises(leruli.CopiedFolderError):
            leruli.task_purge("mol-1.00", force=True)
        assert store.has_bucket(bucket)
        leruli.task_get("mol-0.96")
        assert leruli.task_purge("mol-0.96") == 2
        assert not store.has_bucket(bucket)
        assert not (folder.path / "leruli.bucket").exists()

    def test_many(self, submit, store):
        done, fetched = submit("done"), submit("fetched")
        for one in (done, fetched):
            one.ends(output_dat=b"E\n")
        leruli.task_get("fetched")
        found = leruli.task_purge_many(["done", "fetched"])
        assert found.done == ("fetched",)
        assert found.skipped == {"done": "completed, but not fetched"}
        assert leruli.task_purge_many(["done"], force=True).done == ("done",)


def test_the_group(submit, queue, group):
    folder = submit(cores=2)
    queue.sql(
        """
        INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,
                           agent_version, alive)
        SELECT gen_random_uuid(), id, 'carbon', 'carbon' || id, '', compute_epoch, 16, 64000,
               '26.11', true FROM groups WHERE id = $1
        """,
        group.id,
    )
    [job] = leruli.group_activity(user="ada", states="received", since="1h")
    assert (job.jobid, job.user) == (folder.job, "ada")
    [node] = leruli.group_nodes()
    assert (node.name, node.cores, node.cores_free, node.memory_mb) == ("carbon", 16, 16, 64000)
    folder.ends()
    [usage] = leruli.group_usage(["user"])
    assert (usage.user, usage.code, usage.jobs, usage.completed) == ("ada", None, 1, 1)
    with pytest.raises(leruli.RefusedError, match="'who' is not one of user, code, month"):
        leruli.group_usage(["who"])


def test_an_older_service_is_enough_to_submit(environment, service, water):
    """The FAKE service knows neither task-check nor task-detail nor task-resolve."""
    jobid = leruli.task_submit(water, *WHAT, cores=200)
    assert leruli.task_status(jobid)["status"] == "received"
    assert leruli.task_bucket(water) == (water / "leruli.bucket").read_text().strip()
    with pytest.raises(leruli.UnknownCallError):
        leruli.task_detail(jobid)
