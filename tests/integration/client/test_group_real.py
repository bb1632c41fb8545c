"""`leruli group`, task-bucket and an admin's rights, at the real service and storage."""

import json

import pytest


@pytest.fixture
def admin(real, group):
    """Run the client as the admin."""

    def run(*arguments, **settings):
        admins = {
            "LERULI_API_SECRET": group.admin_secret,
            "LERULI_ADMIN_SECRET": group.admin_secret,
        }
        return real(*arguments, **{**admins, **settings})

    return run


@pytest.fixture
def job(real, water):
    """A job of the user ada: its id, and its bucket."""
    done = real("task-submit", "--json", "psi4", "1.5", "psi4", "input.dat", cwd=water)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_priority_reaches_the_queue(real, water, queue):
    done = real("task-submit", "--priority", "7", "psi4", "1.5", "psi4", cwd=water)
    assert done.returncode == 0, done.stderr
    [row] = queue.sql("SELECT priority FROM jobs WHERE id = $1::uuid", done.stdout.strip())
    assert row["priority"] == 7
    assert real("task-submit", "--priority", "1001", "a", "1", "a", cwd=water).returncode == 2


def test_a_user_is_created_submits_and_is_revoked(admin, real, water):
    secret = admin("group", "create-user", "--quiet", "eve").stdout.strip()
    done = real("task-submit", "psi4", "1.5", "psi4", cwd=water, LERULI_API_SECRET=secret)
    assert done.returncode == 0, done.stderr
    assert admin("group", "create-user", "eve").returncode == 1
    assert admin("group", "create-user", "no such name!").returncode == 1
    listed = json.loads(admin("group", "users", "--json").stdout)["users"]
    assert {one["name"]: one["role"] for one in listed}["eve"] == "user"
    assert "eve" in admin("group", "users").stdout

    assert admin("group", "revoke-user", "--yes", "eve").returncode == 0

    done = real("task-status", cwd=water, LERULI_API_SECRET=secret)
    assert done.returncode == 3
    assert "revoked" in done.stderr
    assert admin("group", "revoke-user", "--yes", "eve").returncode == 4
    assert "\neve\t" not in admin("group", "users").stdout
    assert "\neve\t" in admin("group", "users", "--revoked").stdout
    # The job stays, and the admin may see it.
    assert admin("task-status", cwd=water).stdout.startswith("received: waiting for a node")


def test_create_user_prints_every_line_to_paste(admin, real, queue, s3, water):
    """D2: the address of the queue was not among them, so the secret went elsewhere."""
    done = admin("group", "create-user", "grace")
    lines = [line.strip() for line in done.stderr.splitlines() if line.startswith("    export ")]
    names = [line.removeprefix("export ").split("=")[0] for line in lines]
    keys = ["LERULI_S3_ACCESS", "LERULI_S3_SECRET"]
    assert names == ["LERULI_BASEURL", "LERULI_API_SECRET", "LERULI_S3_SERVER", *keys]
    assert f"export LERULI_BASEURL={queue.url}" in lines
    assert f"export LERULI_S3_SERVER={s3.url}" in lines
    assert s3.secret not in done.stderr
    with_region = admin("group", "create-user", "hopper", LERULI_S3_REGION="eu-1")
    assert "    export LERULI_S3_REGION=eu-1\n" in with_region.stderr + "\n"
    pasted = dict.fromkeys(("LERULI_BASEURL", "LERULI_S3_SERVER"), "")
    pasted |= dict(line.removeprefix("export ").split("=", 1) for line in lines)
    pasted |= {"LERULI_API_SECRET": done.stdout.strip(), keys[0]: s3.access, keys[1]: s3.secret}
    done = real("task-submit", "psi4", "1.5", "psi4", cwd=water, **pasted)
    assert done.returncode == 0, done.stderr


def test_the_last_admin_stays_and_users_are_no_admins(admin, real, group):
    admins = [
        one["name"]
        for one in json.loads(admin("group", "users", "--json").stdout)["users"]
        if one["role"] == "admin"
    ]
    done = admin("group", "revoke-user", "--yes", *admins)
    assert done.returncode == 1
    done = real("group", "users", LERULI_ADMIN_SECRET=group.user_secret)
    assert done.returncode == 3
    assert "did not accept LERULI_ADMIN_SECRET" in done.stderr


def test_a_rotated_compute_secret_is_printed(admin, queue, group):
    done = admin("group", "rotate-compute-secret", "--yes")
    assert done.stdout.startswith("lqc-")
    assert "LERULI_COMPUTE_SECRET" in done.stderr
    audit = admin("group", "audit", "--action", "compute-secret-rotated", "--quiet").stdout
    assert "compute-secret-rotated" in audit
    assert done.stdout.strip() not in audit


def test_activity_usage_and_audit(admin, real, group, queue, job, water):
    assert real("group", "token", "--quiet").stdout.strip() == group.token
    done = real("group", "activity", "--json", "--user", "ada", "--since", "1h")
    [entry] = json.loads(done.stdout)["jobs"]
    assert (entry["jobid"], entry["state"], entry["code"]) == (job["jobid"], "received", "psi4")
    assert job["bucket"] not in done.stdout
    assert json.loads(real("group", "activity", "--json", "--state", "failed").stdout)["jobs"] == []
    assert real("group", "activity", "--user", "nobody").returncode == 4

    assert admin("task-cancel", cwd=water).returncode == 0
    done = real("group", "usage", "--by", "user", "--quiet")
    assert done.stdout == "ada\t1\t0\t0\t1\t0.00\t0.00\t\n"
    lines = real("group", "usage", "--csv").stdout.splitlines()
    before = "user,code,month,jobs,completed,failed,cancelled,corehours"
    assert lines[0] == f"{before},measuredcorehours,cpuhours,batchid,batchname"
    assert lines[1].startswith("ada,psi4:1.5,20")
    token = {"LERULI_GROUP_TOKEN": group.token, "LERULI_API_SECRET": ""}
    assert real("group", "usage", "--quiet", **token).returncode == 0

    entries = json.loads(admin("group", "audit", "--json", "--since", "1h").stdout)["entries"]
    cancelled = [one for one in entries if one["action"] == "job-cancelled"]
    assert [one["subject"] for one in cancelled] == [job["jobid"]]


def test_pages_of_the_activity_have_no_gap(real, group, queue, job):
    queue.sql(
        """
        INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                          time_limit_s)
        SELECT gen_random_uuid(), group_id, user_id, gen_random_uuid()::text, name, code, version,
               cores, memory_mb, time_limit_s
        FROM jobs CROSS JOIN generate_series(1, 1500) WHERE jobs.id = $1::uuid
        """,
        job["jobid"],
    )
    for command in (["group", "activity"], ["task-list"]):
        everything = json.loads(real(*command, "--all", "--json").stdout)["jobs"]
        assert len({entry["jobid"] for entry in everything}) == 1501
        first = json.loads(real(*command, "--limit", "7", "--json").stdout)
        second = json.loads(
            real(*command, "--limit", "7", "--after", first["next"], "--json").stdout
        )
        assert [*first["jobs"], *second["jobs"]] == everything[:14]


def test_a_lost_bucket_is_found_again(real, queue, job, water, tmp_path):
    assert real("task-bucket", cwd=water).stdout.strip() == job["bucket"]
    assert real("task-bucket", job["jobid"]).stdout.strip() == job["bucket"]
    assert real("task-bucket", "00000000-0000-4000-8000-000000000000").returncode == 4


def test_an_admin_fetches_and_purges_for_another(admin, real, queue, job, store, tmp_path):
    other = real("task-get", "--job", job["jobid"], LERULI_API_SECRET=_stranger(admin))
    assert other.returncode == 4
    store.put(job["bucket"], "result.out", b"42\n")
    queue.sql(
        "UPDATE jobs SET state = 'completed', ended_at = now() WHERE id = $1::uuid", job["jobid"]
    )
    target = tmp_path / "elsewhere"
    target.mkdir()

    done = admin("task-get", "--job", job["jobid"], cwd=target)

    assert done.returncode == 0, done.stderr
    assert (target / "result.out").read_bytes() == b"42\n"
    assert admin("task-get", "--job", job["jobid"], job["bucket"]).returncode == 2
    assert admin("task-purge", "--job", job["jobid"], cwd=target).returncode == 0
    assert not store.has_bucket(job["bucket"])
    entries = json.loads(admin("group", "audit", "--json").stdout)["entries"]
    assert {"job-fetched", "job-purged"} <= {one["action"] for one in entries}


def _stranger(admin):
    return admin("group", "create-user", "--quiet", "mallory").stdout.strip()


def test_purging_by_id_is_refused_while_the_job_is_not_over(real, job, store):
    done = real("task-purge", "--job", job["jobid"])
    assert done.returncode == 1
    assert "received" in done.stderr
    assert real("task-purge", "--force", "--job", job["jobid"]).returncode == 0
    assert not store.has_bucket(job["bucket"])


def test_nodes_are_listed_drained_and_removed(admin, real, queue, group):
    queue.sql(
        """
        INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,
                           agent_version, alive)
        SELECT gen_random_uuid(), g.id, 'carbon', 'key of carbon', '', g.compute_epoch, 16, 64000,
               '26.11', true
        FROM groups g WHERE g.id = $1
        """,
        group.id,
    )
    [node] = json.loads(real("group", "nodes", "--json").stdout)["nodes"]
    assert (node["name"], node["standing"], node["coresfree"]) == ("carbon", "usable", 16)
    header, line = real("group", "nodes").stdout.splitlines()
    assert header.split("\t")[:3] == ["name", "standing", "jobs"]
    assert line.split("\t")[:3] == ["carbon", "usable", "0"]

    assert admin("group", "drain-node", "carbon").stdout == "carbon gets no more jobs.\n"
    [node] = json.loads(real("group", "nodes", "--json").stdout)["nodes"]
    assert node["standing"] == "drained"
    assert real("group", "drain-node", "carbon").returncode == 3  # no admin
    assert admin("group", "drain-node", "silicon").returncode == 4

    done = admin("group", "remove-node", "--yes", node["nodeid"])
    assert done.stdout == "carbon is removed; 0 jobs went back to the queue.\n"
    assert json.loads(real("group", "nodes", "--json").stdout)["nodes"] == []
