"""Status, results, cancellation, purge and resubmission of a batch, at the real service."""

from __future__ import annotations

import io
import json
import time

from batch_world import COUNT, begin, set_states, submitting, wait_for

from leruli_node.objects.object_store import part_bytes


def test_states_of_a_batch(real, cases, queue, group, submitted):
    (cases / "case-new").mkdir()
    set_states(queue, group, "failed", submitted[:3])
    set_states(queue, group, "completed", submitted[3:5])

    done = real("task-status", "--batch", "case-*")

    assert done.returncode == 1
    *lines, counts = done.stdout.splitlines()
    # In the order of a job's life, so that two reports are easily compared.
    expected = f"{COUNT - 5} received, 2 completed, 3 failed, 1 not submitted"
    assert counts == f"{COUNT + 1} folders: {expected}."
    assert lines[0].split("\t") == ["folder", "job", "state", "reason"]
    assert lines[1].split("\t")[::2] == ["case-000", "failed"]
    assert lines[-1].split("\t") == ["case-new", "", "not submitted", ""]
    quiet = real("task-status", "--batch", "case-*", "--quiet").stdout.splitlines()
    assert quiet == lines[1:]
    failed = real("task-status", "--batch", "case-*", "--state", "failed", "--json")
    document = json.loads(failed.stdout)
    assert [one["folder"] for one in document["folders"]] == ["case-000", "case-001", "case-002"]
    assert document["counts"]["not submitted"] == 1
    (cases / "case-new").rmdir()
    assert real("task-status", "--batch", "case-*", "--quiet").returncode == 0
    assert real("task-status", "--batch", "case-*", "some-job").returncode == 2


def put_results(store, folders):
    for folder in folders:
        bucket = (folder / "leruli.bucket").read_text().strip()
        store.put(bucket, "joblog.txt", folder.name.encode())
        store.put(bucket, "out/energy", b"-76.0\n")


def fetch_by_hand(folder):
    (folder / "joblog.txt").write_text(folder.name)
    (folder / "out").mkdir()
    (folder / "out" / "energy").write_text("-76.0\n")


def test_results_are_fetched_once(real, cases, queue, group, submitted, store):
    ended, waiting = submitted[:4], submitted[4:]
    set_states(queue, group, "completed", ended[:3])
    set_states(queue, group, "failed", ended[3:])
    put_results(store, ended)

    done = real("task-get", "--batch", "case-*")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Fetched 3 completed and 1 failed (8 files, ")
    assert f"skipped {len(waiting)} ({len(waiting)} received)" in done.stdout
    for folder in ended:
        assert (folder / "joblog.txt").read_text() == folder.name
        assert (folder / "out" / "energy").exists()
        assert not (folder / "run.tgz").exists()
    assert not (waiting[0] / "joblog.txt").exists()

    (ended[0] / "joblog.txt").write_text("changed since")
    set_states(queue, group, "completed", waiting[:1])
    put_results(store, waiting[:1])
    document = json.loads(real("task-get", "--batch", "case-*", "--json").stdout)
    assert document["fetched"] == ["case-004"]
    assert document["skipped"]["case-000"] == "fetched before"
    assert (ended[0] / "joblog.txt").read_text() == "changed since"
    again = real("task-get", "--batch", "case-*", "--again")
    assert again.returncode == 1
    assert "To be looked at: case-000: joblog.txt stays as it is here" in again.stderr
    assert (ended[0] / "joblog.txt").read_text() == "changed since"
    assert real("task-get", "--batch", "case-*", "--again", "--overwrite").returncode == 0
    assert (ended[0] / "joblog.txt").read_text() == "case-000"


def test_jobs_without_results_are_not_called_fetched(real, cases, queue, group, submitted, store):
    """D3: 200 completed and 100 cancelled that had nothing were "Fetched 300"."""
    set_states(queue, group, "completed", submitted[:3])
    set_states(queue, group, "cancelled", submitted[3:5])
    put_results(store, submitted[:3])
    done = real("task-get", "--batch", "case-*")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Fetched 3 completed (6 files, ")
    assert "2 cancelled, without results" in done.stdout


def test_fetching_survives_an_outage_of_the_storage(
    real, cases, queue, group, submitted, store, s3
):
    set_states(queue, group, "completed", submitted)
    put_results(store, submitted)
    process = begin(cases, "task-get", "--batch", "case-*", "--json")
    wait_for(lambda: list(cases.glob("*/joblog.txt")))
    s3.kill()
    try:
        time.sleep(8)
    finally:
        s3.start()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(json.loads(out)["fetched"]) == COUNT
    assert not list(cases.glob("*/.leruli-part-*"))


def test_results_that_cannot_be_fetched_are_reported_and_fetched_later(
    real, cases, queue, group, submitted, store
):
    set_states(queue, group, "completed", submitted)
    put_results(store, submitted)
    (submitted[7] / "out").write_text("a file where a folder should be")
    done = real("task-get", "--batch", "case-*")
    assert done.returncode == 1
    assert "Not fetched: case-007: out/energy was not fetched" in done.stderr
    assert f"Fetched {COUNT - 1} " in done.stdout
    (submitted[7] / "out").unlink()
    document = json.loads(real("task-get", "--batch", "case-*", "--json").stdout)
    assert document["fetched"] == ["case-007"]


def test_a_batch_is_cancelled(real, cases, queue, group, submitted):
    set_states(queue, group, "completed", submitted[:2])
    (submitted[2] / "leruli.job").write_text("00000000-0000-4000-8000-000000000000\n")
    done = real("task-cancel", "--batch", "case-*")
    assert done.returncode == 1
    assert done.stdout == (f"Cancelled {COUNT - 3}; skipped 2 (2 completed already); 1 failed.\n")
    assert "Not cancelled: case-002: There is no job" in done.stderr
    counts = queue.sql(
        "SELECT state, count(*) FROM jobs WHERE group_id = $1 GROUP BY 1 ORDER BY 1", group.id
    )
    assert {row["state"]: row["count"] for row in counts} == {
        "received": 1,
        "completed": 2,
        "cancelled": COUNT - 3,
    }


def test_the_backlog_is_cancelled(real, cases, queue, group, submitted):
    set_states(queue, group, "completed", submitted[:2])
    assert real("task-cancel", "--all-waiting").returncode == 2
    done = real("task-cancel", "--all-waiting", "--yes")
    assert (done.returncode, done.stdout) == (0, f"Cancelled {COUNT - 2} jobs.\n")
    assert real("task-cancel", "--all-waiting", "--yes").stdout == "Cancelled 0 jobs.\n"


def test_purging_a_batch_skips_active_and_unfetched_jobs(
    real, cases, queue, group, submitted, store
):
    buckets = [(folder / "leruli.bucket").read_text().strip() for folder in submitted]
    set_states(queue, group, "completed", submitted[:4])
    set_states(queue, group, "failed", submitted[4:6])
    put_results(store, submitted[:6])
    for folder in submitted[:3]:
        fetch_by_hand(folder)

    done = real("task-purge", "--batch", "case-*", "--json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert sorted(document["purged"]) == [f"case-00{n}" for n in (0, 1, 2, 4, 5)]
    assert document["skipped"]["case-003"] == "completed, but not fetched"
    assert document["skipped"]["case-006"] == "received"
    assert [store.has_bucket(bucket) for bucket in buckets[:7]] == [
        *(False, False, False, True, False, False, True)
    ]
    assert not (submitted[0] / "leruli.bucket").exists()
    assert real("task-purge", "--force", "--batch", "case-*").returncode == 0
    assert not any(store.has_bucket(bucket) for bucket in buckets)


def test_partly_fetched_results_are_not_purged(real, cases, queue, group, submitted, store):
    buckets = [(folder / "leruli.bucket").read_text().strip() for folder in submitted[:5]]
    set_states(queue, group, "completed", submitted[:2])
    set_states(queue, group, "failed", submitted[2:4])
    put_results(store, submitted[:5])
    for folder in submitted[1:3]:
        (folder / "out").write_text("a file where a folder should be")
    assert real("task-get", "--batch", "case-*").returncode == 1
    (submitted[0] / "joblog.txt").write_text("changed since it was fetched")
    set_states(queue, group, "completed", submitted[4:5])
    fetch_by_hand(submitted[4])
    (submitted[4] / "out" / "energy").write_text("cut short")

    done = real("task-purge", "--batch", "case-*", "--json")

    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["purged"] == ["case-003"]
    assert sorted(document["failed"]) == ["case-000", "case-001", "case-002", "case-004"]
    assert "Not purged: case-001: Its results were fetched only in part" in done.stderr
    assert "does not have out/energy as the storage does" in done.stderr
    assert [store.has_bucket(bucket) for bucket in buckets] == [True, True, True, False, True]

    for folder in submitted[1:3]:
        (folder / "out").unlink()
    # A local change stays. The stored result is put beside it, which counts as fetched.
    assert real("task-get", "--batch", "case-*", "--again").returncode == 1
    assert (submitted[4] / "out" / "energy").read_text() == "cut short"
    done = real("task-purge", "--batch", "case-*", "--json")
    assert done.returncode == 0, done.stderr
    purged = ["case-000", "case-001", "case-002", "case-004"]
    assert sorted(json.loads(done.stdout)["purged"]) == purged


def test_an_input_file_is_not_mistaken_for_the_result_of_its_name(
    real, cases, queue, group, submitted, store
):
    """H9: a job rewrote restart.bin in place, and fetching it failed: equal sizes prove nothing."""
    folder = submitted[0]
    bucket = (folder / "leruli.bucket").read_text().strip()
    set_states(queue, group, "completed", [folder])
    put_results(store, [folder])
    store.put(bucket, "restart.bin", b"new state")
    fetch_by_hand(folder)
    (folder / "restart.bin").write_bytes(b"old state")

    one = real("task-purge", cwd=folder)
    many = real("task-purge", "--batch", "case-*")

    assert (one.returncode, many.returncode) == (1, 1)
    assert "does not have restart.bin as the storage does" in one.stderr
    assert "does not have restart.bin as the storage does" in many.stderr
    assert store.has_bucket(bucket)
    assert real("task-get", "--overwrite", cwd=folder).returncode == 0
    assert real("task-purge", cwd=folder).returncode == 0
    assert not store.has_bucket(bucket)
    assert (folder / "restart.bin").read_bytes() == b"new state"


def test_results_in_parts_are_recognised(real, cases, queue, group, submitted, store):
    """H9: uploaded in parts of the node agent's size, which its own code computes."""
    folder = submitted[0]
    bucket = (folder / "leruli.bucket").read_text().strip()
    set_states(queue, group, "completed", [folder])
    content = bytes(range(256)) * (20 * 4096)
    store._minio.put_object(
        bucket, "big", io.BytesIO(content), len(content), part_size=part_bytes(len(content))
    )
    (folder / "big").write_bytes(content[:-1] + b"x")
    refused = real("task-purge", cwd=folder)
    assert refused.returncode == 1
    assert "its results are not in this folder" in refused.stderr
    assert store.has_bucket(bucket)
    (folder / "big").write_bytes(content)
    assert real("task-purge", cwd=folder).returncode == 0
    assert not store.has_bucket(bucket)


def test_failed_jobs_are_submitted_again_with_their_history(
    real, cases, queue, group, submitted, store
):
    set_states(queue, group, "failed", submitted[:2])
    set_states(queue, group, "completed", submitted[2:3])
    put_results(store, submitted[:3])
    assert real("task-get", "--batch", "case-*").returncode == 0
    before = {
        folder.name: (
            (folder / "leruli.job").read_text().strip(),
            (folder / "leruli.bucket").read_text().strip(),
        )
        for folder in submitted
    }

    done = real("task-resubmit", "--failed", *submitting()[1:], "--json")

    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["submitted"]) == ["case-000", "case-001"]
    for folder in submitted[:2]:
        job, bucket = before[folder.name]
        assert (folder / "leruli.job").read_text().strip() != job
        assert (folder / "leruli.bucket").read_text().strip() != bucket
        history = folder / "leruli.history" / job
        assert (history / "joblog.txt").read_text() == folder.name
        assert (history / "leruli.bucket").read_text().strip() == bucket
        assert store.has_bucket(bucket)
        # The bucket of the last job is purged from its folder in the history.
        assert real("task-purge", cwd=history).returncode == 0
        assert not store.has_bucket(bucket)
    for folder in submitted[2:]:
        assert (folder / "leruli.job").read_text().strip() == before[folder.name][0]
    again = real("task-resubmit", "--failed", *submitting()[1:], "--json")
    assert json.loads(again.stdout)["submitted"] == {}
    assert len(queue.sql("SELECT 1 FROM jobs WHERE group_id = $1", group.id)) == COUNT + 2


def test_a_killed_resubmission_continues(real, cases, queue, group, submitted):
    set_states(queue, group, "failed", submitted)
    process = begin(cases, "task-resubmit", "--failed", *submitting()[1:])
    wait_for(lambda: len(list(cases.glob("*/leruli.history/*/leruli.job"))) >= 20)
    process.kill()
    process.communicate()
    done = real("task-resubmit", "--failed", *submitting()[1:])
    assert done.returncode == 0, done.stderr
    assert len(queue.sql("SELECT 1 FROM jobs WHERE group_id = $1", group.id)) == 2 * COUNT
    assert len(list(cases.glob("*/leruli.history/*/leruli.job"))) == COUNT
    assert len(list(cases.glob("*/leruli.job"))) == COUNT


def test_one_folder_is_submitted_again(real, cases, queue, group, submitted):
    folder, command = submitted[0], ["task-resubmit", "psi4", "1.5", "psi4", "input.dat"]
    done = real(*command, cwd=folder)
    assert done.returncode == 1
    assert "not submitted again: received" in done.stderr
    set_states(queue, group, "completed", [folder])
    first = (folder / "leruli.job").read_text().strip()
    failed_only = real(command[0], "--failed", *command[1:], cwd=folder)
    assert failed_only.returncode == 1
    assert (folder / "leruli.job").read_text().strip() == first
    done = real(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (folder / "leruli.job").read_text().strip() != first


def test_own_jobs_are_listed(real, cases, queue, group, submitted):
    set_states(queue, group, "failed", submitted[:2])
    done = real("task-list", "--state", "failed", "--since", "1h")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split("\t")[:2] == ["job", "name"]
    jobs = {line.split("\t")[0] for line in lines[1:]}
    assert jobs == {(folder / "leruli.job").read_text().strip() for folder in submitted[:2]}
    assert "--after" in real("task-list", "--limit", "5").stderr


def test_a_storage_that_stays_away_ends_the_fetching(
    real, cases, queue, group, submitted, store, s3
):
    set_states(queue, group, "completed", submitted[10:])
    put_results(store, submitted[10:])
    s3.kill()
    try:
        started = time.monotonic()
        done = real("task-get", "--batch", "case-*", "--json", LERULI_RETRY_SECONDS="6")
        seconds = time.monotonic() - started
        purged = real("task-purge", "--batch", "case-*", "--force", "--json")
    finally:
        s3.start()
    assert done.returncode == 1
    # Eight threads wait for the retry time once, and not once per folder.
    assert seconds < 40
    document = json.loads(done.stdout)
    assert len(document["failed"]) == COUNT - 10
    assert document["skipped"] == {folder.name: "received" for folder in submitted[:10]}
    untried = [why for why in document["failed"].values() if why.startswith("Not tried")]
    assert len(untried) == COUNT - 10 - 8
    assert all("did not answer" in why for why in untried)
    untried = [w for w in json.loads(purged.stdout)["failed"].values() if w.startswith("Not tried")]
    assert len(untried) == COUNT - 8
    # The same command continues later.
    done = real("task-get", "--batch", "case-*", "--json")
    assert len(json.loads(done.stdout)["fetched"]) == COUNT - 10, done.stderr


def test_an_admin_cancels_the_backlog_of_a_user(real, cases, group, submitted, monkeypatch):
    """A low finding: the jobs of a revoked user could only be cancelled one by one."""
    assert real("task-cancel", "--user", "ada").returncode == 2
    refused = real("task-cancel", "--all-waiting", "--user", "ada", "--yes")
    assert refused.returncode != 0
    assert "admin" in refused.stderr
    monkeypatch.setenv("LERULI_API_SECRET", group.admin_secret)
    asked = real("task-cancel", "--all-waiting", "--user", "ada", "--yes")
    assert (asked.returncode, asked.stdout) == (0, f"Cancelled {COUNT} jobs.\n")
