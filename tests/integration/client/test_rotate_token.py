"""`leruli group rotate-token` against the real service and the real storage."""

import json
import os

import httpx
import pytest


@pytest.fixture
def admin(real, group):
    """Run the client as the admin."""

    def run(*arguments, **settings):
        return real("group", *arguments, LERULI_ADMIN_SECRET=group.admin_secret, **settings)

    return run


@pytest.fixture
def store(s3):
    from leruli.settings import StorageSettings
    from leruli.storage.store import Store

    return Store(StorageSettings(s3.url.removeprefix("http://"), False, s3.access, s3.secret))


def names(store, token):
    return sorted(one.name for one in store.list(f"code-{token}"))


def call(queue, path, **body):
    return httpx.post(f"{queue.url}/v22_1/{path}", json=body, timeout=60, trust_env=False)


def actions(queue, group):
    entries = call(queue, "group-audit", adminsecret=group.admin_secret).json()["entries"]
    return sorted(one["action"] for one in entries if one["action"].startswith("group-"))


IMAGES = ["psi4-1.3.2.tgz", "psi4-1.5.tgz"]


def test_the_images_move_and_the_old_token_and_bucket_end(admin, real, group, queue, store, water):
    done = admin("rotate-token", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    token = answer["grouptoken"]
    assert (answer["new"], answer["finished"], answer["waitingfor"]) == (True, True, [])
    assert call(queue, "group-activity", grouptoken=group.token).status_code == 403
    assert call(queue, "group-activity", grouptoken=token).status_code == 200
    assert names(store, token) == IMAGES
    assert not store.has_bucket(f"code-{group.token}")
    assert real("list-codes").stdout.split() == ["psi4:1.3.2", "psi4:1.5"]
    submitted = real("task-submit", "psi4", "1.5", "psi4", cwd=water)
    assert submitted.returncode == 0, submitted.stderr
    assert actions(queue, group) == ["group-created", "group-images-moved", "group-token-rotated"]
    # No rotation is unfinished now, so the next call begins a new one.
    assert admin("rotate-token", "--yes", "--finish").returncode == 1
    again = json.loads(admin("rotate-token", "--yes", "--json").stdout)
    assert again["grouptoken"] != token
    assert names(store, again["grouptoken"]) == IMAGES
    for secret in (token, group.token, again["grouptoken"]):
        assert secret not in done.stderr


@pytest.mark.parametrize(
    ("owner", "method", "times"),
    [
        ("GroupAdmin", "prepare_token", 1),
        ("Store", "copy", 1),
        ("Store", "copy", 2),
        ("GroupAdmin", "begin_token", 1),
        ("GroupAdmin", "nodes", 1),
        ("Store", "remove_bucket", 1),
        ("GroupAdmin", "images_moved", 1),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_same_command_continues_after_a_kill_at_any_step(
    admin, group, queue, store, tmp_path, owner, method, times, when
):
    """The client ends as if killed before or after a step; the next run knows nothing of it."""
    killing = tmp_path / "killing"
    killing.mkdir()
    module = {"GroupAdmin": "leruli.service.group", "Store": "leruli.storage.store"}[owner]
    (killing / "sitecustomize.py").write_text(
        f"""
import os
from {module} import {owner} as owner

step, left = owner.{method}, [{times}]

def killed(*arguments, **fields):
    left[0] -= 1
    if left[0] == 0 and "{when}" == "before":
        os._exit(137)
    answer = step(*arguments, **fields)
    if left[0] == 0:
        os._exit(137)
    return answer

owner.{method} = killed
"""
    )
    path = os.pathsep.join([str(killing), os.environ.get("PYTHONPATH", "")])
    done = admin("rotate-token", "--yes", PYTHONPATH=path)
    assert done.returncode == 137, done.stderr
    done = admin("rotate-token", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    # After a kill behind the last step, the next call begins a new rotation.
    is_another = (method, when) == ("images_moved", "after")
    assert answer["finished"] is True
    assert actions(queue, group).count("group-token-rotated") == (2 if is_another else 1)
    assert call(queue, "group-token", secret=group.user_secret).json() == answer["grouptoken"]
    assert names(store, answer["grouptoken"]) == IMAGES
    assert not store.has_bucket(f"code-{group.token}")


def test_after_a_rotation_by_curl_images_stay_reachable_and_move_later(
    admin, real, group, queue, store, water
):
    token = call(queue, "group-rotate-token", adminsecret=group.admin_secret).json()
    assert not store.has_bucket(f"code-{token}")
    assert real("list-codes").stdout.split() == ["psi4:1.3.2", "psi4:1.5"]
    submitted = real("task-submit", "psi4", "1.5", "psi4", cwd=water)
    assert submitted.returncode == 0, submitted.stderr
    # This image was published again meanwhile. The older one must not replace it.
    store.make_bucket(f"code-{token}")
    store.put(f"code-{token}", "psi4-1.5.tgz", b"a newer image")
    assert real("list-codes").stdout.split() == ["psi4:1.3.2", "psi4:1.5"]

    answer = json.loads(admin("rotate-token", "--yes", "--json").stdout)

    assert answer == {"new": False, "finished": True, "waitingfor": [], "grouptoken": token}
    assert names(store, token) == IMAGES
    assert store.find(f"code-{token}", "psi4-1.5.tgz").size == len(b"a newer image")
    assert not store.has_bucket(f"code-{group.token}")


def test_old_images_stay_as_long_as_a_machine_uses_them(
    admin, group, queue, store, monkeypatch, tmp_path
):
    quick = tmp_path / "quick"
    quick.mkdir()
    (quick / "sitecustomize.py").write_text(
        "import leruli.images.rotate as r; r._WAIT_FOR_MACHINES = 0.0"
    )
    path = os.pathsep.join([str(quick), os.environ.get("PYTHONPATH", "")])
    queue.sql(
        """
        INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb,
                           agent_version)
        VALUES (gen_random_uuid(), $1, 'old-agent', $2, 'x', 1, 4, 8000, '0')
        """,
        group.id,
        f"key-{group.id}",
    )
    done = admin("rotate-token", "--yes", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "old-agent" in done.stderr
    token = done.stdout.strip()
    assert names(store, group.token) == names(store, token) == IMAGES
    done = admin("rotate-token", "--yes", "--finish", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == token
    assert not store.has_bucket(f"code-{group.token}")


def test_a_leaked_secret_is_revoked_by_its_key_id(admin, group, queue):
    """D8: the key id that secret-find prints did not lead to the user."""
    key_id = group.user_secret.split("-")[1]
    listed = json.loads(admin("users", "--json").stdout)["users"]
    assert [one["name"] for one in listed if one["keyid"] == key_id] == ["ada"]
    done = admin("revoke-user", "--yes", "--key-id", key_id)
    assert (done.returncode, done.stdout) == (0, "Revoked ada.\n")
    assert call(queue, "group-token", secret=group.user_secret).status_code == 403
    assert admin("revoke-user", "--yes").returncode == 2
    assert admin("revoke-user", "--yes", "--key-id", key_id, "ada").returncode == 2
