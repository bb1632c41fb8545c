"""No secret of a stack is visible anywhere except where it must be.

A stack goes through a day with many faults. Then everything that it showed is searched for every
secret that it had.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping

import httpx
import pytest
from canaries import Day, ProcessWatch, database_of, logs_of, nomad_of
from canary_client import mistype_settings, use_the_client
from canary_faults import MACHINE, break_the_database, kill_parts_during_an_upload
from canary_requests import send_all, wrong_requests
from e2e_world import StackOfTest, forget_images, wait_for

_MOST_BYTES = 20_000
_SETTINGS = {
    "LERULI_NODE_GRACE_SECONDS": "2",
    "LERULI_QUEUE_LOG_LEVEL": "debug",
    "LERULI_QUEUE_MAX_BODY_BYTES": str(_MOST_BYTES),
    # These tests send thousands of wrong secrets.
    "LERULI_QUEUE_REFUSAL_DELAY_S": "0",
}
# Prints everything that a container can see to the job's log.
_SHOW_EVERYTHING = (
    "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'; "
    "find /leruli /rundir /alloc /local /secrets /tmp -type f -print -exec cat {} +; "
    "sleep 3; exit 3"
)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    folder = tmp_path_factory.mktemp("canaries")
    made = StackOfTest(folder / "data", _SETTINGS)
    made.data.mkdir(mode=0o700)
    access = f"canary{secrets.token_hex(16)}"
    kept = {"ports": {}, "object_store_access": access}
    (made.data / "secrets.json").write_text(json.dumps(kept))
    lived = Day(made, folder)
    try:
        with ProcessWatch() as watch:
            made.up()
            _live(lived, watch)
        lived.seen["process list"] = {"all of it": "\n".join(sorted(watch.lines))}
        yield lived
    finally:
        made.down()
        forget_images(made)
        shutil.rmtree(made.data)


def _live(day: Day, watch: ProcessWatch) -> None:
    stack = day.stack
    kept = dict(stack.secrets)
    for name, value in kept.items():
        if name not in ("ports", "address"):
            day.note(name, value)
    _note_files(day)
    day.run("client", ["leruli", "publish-code", "leruli-test", "1"], day.folder)
    right = _use_every_secret(day, kept)

    shows = day.job("shows", _SHOW_EVERYTHING)
    missing = day.folder / "missing"
    missing.mkdir()
    day.note_bucket("missing", stack.submit_unpublished(missing, "leruli-test:9"))
    stack.wait_for_state(shows, "running")
    day.seen["container"] = {"docker inspect": _inspect_containers(stack)}
    openapi = httpx.get(f"{stack.user['LERULI_BASEURL']}/openapi.json", trust_env=False)
    day.answers.append(("openapi.json", openapi))
    asked = wrong_requests(openapi.json(), day.secrets, right, _MOST_BYTES)
    day.answers += send_all(stack.user["LERULI_BASEURL"], asked)
    break_the_database(day, right)
    assert stack.end(shows)[0] == "failed"
    assert stack.end(missing)[0] == "failed"
    stack.get(shows)
    day.seen["container"]["joblog.txt"] = (shows / "joblog.txt").read_text(errors="replace")

    uploads = day.job("uploads", "echo begun; sleep 2; head -c 20000000 /dev/urandom > large")
    kill_parts_during_an_upload(day, uploads, right)
    assert stack.end(uploads) == ("completed", None)
    use_the_client(day, watch, shows, uploads)
    mistype_settings(day, kept["postgres_password"])
    _rotate(day, right)

    token = day.secrets["rotated group token"]
    day.answers.append(("activity", stack.call("group-activity", grouptoken=token)))
    events = stack.call("group-events", grouptoken=token, cursor="1-0")
    assert events.json()["events"]
    day.answers.append(("events", events))
    for call in ("livez", "readyz", "metrics"):
        path = f"{stack.user['LERULI_BASEURL']}/{call}"
        day.answers.append((call, httpx.get(path, trust_env=False)))
    day.seen["answers"] = {
        f"{number} {what}": f"{answer.status_code} {dict(answer.headers)} {answer.text}"
        for number, (what, answer) in enumerate(day.answers)
    }
    day.seen["logs"] = logs_of(stack)
    day.seen["Nomad"] = nomad_of(stack)
    day.seen["database"] = database_of(stack)


def _note_files(day: Day) -> None:
    """Record the secrets of Nomad that are in no setting."""
    state = day.stack.data / "node" / "nomad"
    found = {path.name: path for path in state.rglob("*") if path.is_file()}
    day.note("the node's introduction token", found["intro_token.jwt"].read_text().strip())
    day.note("the node's secret of Nomad", found["secret-id"].read_text().strip())
    keys = {path for path in day.stack.data.rglob("*-key.pem") if path.is_file()}
    assert {"ca-key.pem", "node-key.pem", "server-key.pem", "broker-key.pem"} <= {
        path.name for path in keys
    }
    for path in keys:
        # One line of a key is enough.
        day.canaries.add(f"{path.parent.name}/{path.name}", path.read_text().splitlines()[2])


def _use_every_secret(day: Day, kept: Mapping[str, str]) -> dict[str, str]:
    """Make calls that show secrets; return a valid secret for each field that takes one."""
    admin = {"adminsecret": kept["admin_secret"]}
    revoked = day.note("revoked", day.ask("group-create-user", "revoked", name="brief", **admin))
    day.ask("group-token", "group_token", secret=revoked)
    day.ask("group-revoke-user", name="brief", **admin)
    day.ask("group-list-users", revoked=True, **admin)
    machine = {"grouptoken": kept["group_token"], "name": "second", **MACHINE}
    joined = day.ask("node-join", "node", computesecret=kept["compute_secret"], **machine)
    day.note("node token", joined["nodetoken"])
    day.note("introduction token", joined["nomad"]["introtoken"])
    return {
        "secret": kept["user_secret"],
        "adminsecret": kept["admin_secret"],
        "grouptoken": kept["group_token"],
        "computesecret": kept["compute_secret"],
        "nodetoken": joined["nodetoken"],
    }


def _inspect_containers(stack: StackOfTest) -> str:
    node = json.loads((stack.data / "node" / "node.json").read_text())["nodeid"]
    listed = subprocess.run(
        ["docker", "ps", "--quiet", "--filter", f"label=leruli.node={node}"],
        capture_output=True,
        text=True,
        check=True,
    )
    inspected = subprocess.run(
        ["docker", "inspect", *listed.stdout.split()], capture_output=True, text=True, check=True
    )
    return inspected.stdout


def _rotate(day: Day, right: Mapping[str, str]) -> None:
    stack = day.stack
    admin, user = right["adminsecret"], right["secret"]
    new = day.ask("group-rotate-compute-secret", "new", adminsecret=admin)
    day.note("rotated compute secret", new)
    machine = {"grouptoken": right["grouptoken"], "name": "fourth", **MACHINE}
    old = stack.call("node-join", computesecret=right["computesecret"], **machine)
    assert old.status_code == 403
    day.answers.append(("node-join", old))
    joined = day.ask("node-join", "node", computesecret=new, **machine)
    day.note("new node token", joined["nodetoken"])
    day.note("new introduction token", joined["nomad"]["introtoken"])
    job_id = (day.folder / "uploads" / "leruli.job").read_text().strip()
    day.ask("task-bucket", "bucket", secret=user, jobid=job_id)
    for call in ("group-audit", "group-list-users"):
        day.ask(call, adminsecret=admin)
    token = day.ask("group-rotate-token", "new", adminsecret=admin)
    day.note("rotated group token", token)
    answer = day.ask("group-image-tokens", "new", secret=user)
    assert answer == {"tokens": [token, right["grouptoken"]]}
    for call in ("group-activity", "group-usage"):
        day.ask(call, grouptoken=token)
        refused = stack.call(call, grouptoken=right["grouptoken"])
        assert refused.status_code == 403
        day.answers.append((call, refused))
    log = stack.data / "logs" / "node.log"
    wait_for(
        lambda: f'"key": "{token.split("-")[1]}"' in log.read_text(errors="replace"),
        seconds=60,
        what="the node has the new group token",
    )


# Text that each place must hold. So a place that was not read cannot pass as clean.
_LANDMARKS = {
    "logs": ("receipt delivered", "CheckViolationError", "cluster leadership", "ready to accept"),
    "answers": ("leruli_queue_requests_total", "TaskSubmit", "compute-secret-rotated", "Retry"),
    "Nomad": ("NOMAD_META_job", "TaskStates", "TriggeredBy", "HTTPAddr"),
    "process list": ("nomad agent", "leruli_queue serve", "leruli task-get"),
    "container": ("NOMAD_ALLOC_ID", "HostConfig"),
    "client": ("Traceback", "[hidden]"),
    "commands": ("LERULI_QUEUE_DATABASE_URL",),
    "database": ("image_unknown", "compute-secret-rotated", "SCRAM-SHA-256"),
}


@pytest.mark.parametrize("place", _LANDMARKS)
def test_no_secret_is_visible_in(day: Day, place: str) -> None:
    shown = day.seen[place]
    everything = "\n".join(shown.values())
    assert [mark for mark in _LANDMARKS[place] if mark not in everything] == []
    leaks = []
    for where, text in shown.items():
        allowed = []
        # Only the client and the database know the bucket.
        if place == "client" or where == "public.jobs.bucket":
            allowed = day.buckets
        # PostgreSQL logs the user name of an attempt to connect, and shows it in the process list.
        if where == "postgres.log" or place == "process list":
            allowed = ["mistyped password"]
        leaks += [f"{where}: {name}" for name in day.canaries.found(text, allowed=allowed)]
    assert not leaks, "\n".join(leaks)
