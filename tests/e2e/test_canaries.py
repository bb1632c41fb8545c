"""No secret of a stack is shown anywhere but where it is meant to be.

One stack of its own lives through a day on which everything goes wrong; then everything that it
showed to anybody is searched for every secret that it had.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from canaries import Day, ProcessWatch, database_of, logs_of, nomad_of
from canary_requests import send_all, wrong_requests
from e2e_world import StackOfTest, forget_images, wait_for
from service_world import signing_request

from leruli_queue.embedded.plain_http import answers

_MOST_BYTES = 20_000
_SETTINGS = {
    "LERULI_NODE_GRACE_SECONDS": "2",
    "LERULI_QUEUE_LOG_LEVEL": "debug",
    "LERULI_QUEUE_MAX_BODY_BYTES": str(_MOST_BYTES),
    # Thousands of wrong secrets are tried here.
    "LERULI_QUEUE_REFUSAL_DELAY_S": "0",
}
_MACHINE: dict[str, object] = {"cores": 1, "memorymb": 100, "csr": signing_request()}
# All that a container can see, in its own log.
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
    _break_the_database(day, right)
    assert stack.end(shows)[0] == "failed"
    assert stack.end(missing)[0] == "failed"
    stack.get(shows)
    day.seen["container"]["joblog.txt"] = (shows / "joblog.txt").read_text(errors="replace")

    uploads = day.job("uploads", "echo begun; sleep 2; head -c 20000000 /dev/urandom > large")
    _kill_parts_while_it_uploads(day, uploads, right)
    assert stack.end(uploads) == ("completed", None)
    _use_the_client(day, watch, shows, uploads)
    _mistype_settings(day, kept["postgres_password"])
    _rotate(day, right)

    token = day.secrets["rotated group token"]
    day.answers.append(("activity", stack.call("group-activity", grouptoken=token)))
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
    """Secrets of Nomad's own that no settings hold."""
    state = day.stack.data / "node" / "nomad"
    found = {path.name: path for path in state.rglob("*") if path.is_file()}
    day.note("the node's introduction token", found["intro_token.jwt"].read_text().strip())
    day.note("the node's secret of Nomad", found["secret-id"].read_text().strip())
    keys = {path for path in day.stack.data.rglob("*-key.pem") if path.is_file()}
    assert {"ca-key.pem", "node-key.pem", "server-key.pem", "broker-key.pem"} <= {
        path.name for path in keys
    }
    for path in keys:
        # One line of it is enough.
        day.canaries.add(f"{path.parent.name}/{path.name}", path.read_text().splitlines()[2])


def _use_every_secret(day: Day, kept: Mapping[str, str]) -> dict[str, str]:
    """Make calls that show secrets; returns a right one for each field that takes one."""
    admin = {"adminsecret": kept["admin_secret"]}
    revoked = day.note("revoked", day.ask("group-create-user", "revoked", name="brief", **admin))
    day.ask("group-token", "group_token", secret=revoked)
    day.ask("group-revoke-user", name="brief", **admin)
    day.ask("group-list-users", revoked=True, **admin)
    machine = {"grouptoken": kept["group_token"], "name": "second", **_MACHINE}
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


def _break_the_database(day: Day, right: Mapping[str, str]) -> None:
    """Have defects of ours logged with their tracebacks, then kill it amid requests."""
    stack = day.stack
    wanted = {"secret": right["secret"], "codeversion": "leruli-test:1", "cores": 1024}
    stack.execute(
        "ALTER TABLE jobs ADD CONSTRAINT forced CHECK (name <> 'forced') NOT VALID;"
        "ALTER TABLE users ADD CONSTRAINT forced CHECK (name <> 'forced') NOT VALID;"
        "ALTER TABLE groups RENAME COLUMN disabled_at TO forced"
    )
    renamed = stack.call("task-status", jobid=str(uuid4()), secret=right["secret"])
    stack.execute("ALTER TABLE groups RENAME COLUMN forced TO disabled_at")
    bucket = day.note_bucket("forced", str(uuid4()))
    failed = [
        renamed,
        stack.call("task-submit", bucketid=bucket, name="forced", **wanted),
        stack.call("group-create-user", name="forced", adminsecret=right["adminsecret"]),
    ]
    assert [answer.status_code for answer in failed] == [500, 500, 500]
    stack.execute(
        "ALTER TABLE jobs DROP CONSTRAINT forced; ALTER TABLE users DROP CONSTRAINT forced"
    )
    lock = "BEGIN; LOCK TABLE users, groups IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(30)"
    with ThreadPoolExecutor(1) as thread:
        locked = thread.submit(stack.execute, lock)
        answers = _kill_amid_requests(day, right, "PostgreSQL")
        assert locked.exception() is not None
    assert 503 in answers
    wait_for(lambda: _is_ready(stack), seconds=20, what="the database is back")


def _kill_amid_requests(day: Day, right: Mapping[str, str], part: str) -> set[int]:
    """Kill a part that requests wait for; returns the statuses of their answers."""
    both = {name: right[name] for name in ("grouptoken", "computesecret")}
    bodies: dict[str, dict[str, object]] = {
        "task-status": {"jobid": str(uuid4()), "secret": right["secret"]},
        "group-token": {"secret": day.secrets["revoked"]},
        "group-list-users": {"adminsecret": right["adminsecret"]},
        "node-join": {"name": "third", **_MACHINE, **both},
    }
    with ThreadPoolExecutor(len(bodies)) as threads:
        asked = {call: threads.submit(day.stack.call, call, **bodies[call]) for call in bodies}
        time.sleep(0.7)
        day.stack.kill(part)
        answers = {call: future.result() for call, future in asked.items()}
    # Two of these show secrets where they succeed.
    day.answers += [(call, answer) for call, answer in answers.items() if answer.is_error]
    return {answer.status_code for answer in answers.values()}


def _is_ready(stack: StackOfTest) -> bool:
    return answers(f"{stack.user['LERULI_BASEURL']}/readyz")


def _kill_parts_while_it_uploads(day: Day, folder: Path, right: Mapping[str, str]) -> None:
    stack = day.stack
    job_id = (folder / "leruli.job").read_text().strip()
    stack.wait_for_state(folder, "running")
    stack.kill("node")
    stack.kill("Nomad server", signal.SIGSTOP)
    assert 503 in _kill_amid_requests(day, right, "Nomad server")
    # It hangs when the upload comes, so that it is killed in the middle of it.
    stack.kill("object store", signal.SIGSTOP)
    uploads = "SELECT 1 FROM attempts WHERE job_id = $1::uuid AND upload_at IS NOT NULL"
    wait_for(lambda: bool(stack.fetch(uploads, job_id)), seconds=60, what="the upload begins")
    time.sleep(1)
    stack.kill("object store")
    day.run("client", ["leruli", "task-get"], folder, LERULI_DEBUG="1")


def _use_the_client(day: Day, watch: ProcessWatch, done: Path, uploaded: Path) -> None:
    """Every command: well, failing, and with a secret where something else is wanted."""
    stack = day.stack
    waiting = day.job("waits", "sleep 60")
    commands = [
        ["task-submit", "leruli-test", "1", "true"],
        ["task-status"],
        ["task-get"],
        ["task-cancel"],
        ["task-purge"],
        ["publish-code", "leruli-test", "1"],
        ["list-codes"],
        ["task-list"],
        ["task-bucket"],
        ["group", "users"],
        # With a revoked secret: else it prints what it is there to print.
        ["group", "token"],
        ["group", "audit"],
    ]
    nowhere = "http://127.0.0.1:9"
    wrong: list[dict[str, str]] = [
        {"LERULI_API_SECRET": day.secrets["revoked"]},
        {"LERULI_BASEURL": nowhere, "LERULI_S3_SERVER": nowhere},
        {"LERULI_S3_SECRET": day.note("wrong S3 key", secrets.token_hex(20))},
        {"LERULI_S3_ACCESS": day.note("wrong S3 access", secrets.token_hex(20))},
        {
            "LERULI_BASEURL": f"http://x:{day.secrets['user_secret']}@127.0.0.1:9",
            "LERULI_S3_SERVER": f"http://x:{day.secrets['object_store_secret']}@127.0.0.1:9",
        },
    ]
    debug = {
        "LERULI_DEBUG": "1",
        "LERULI_RETRY_SECONDS": "0",
        "LERULI_ADMIN_SECRET": day.secrets["admin_secret"],
    }
    tries: list[tuple[list[str], Path, dict[str, str]]]
    tries = [(command, uploaded, {}) for command in (["task-status"], ["list-codes"])]
    tries += [(["task-get", "--json"], done, debug), (["task-cancel"], waiting, debug)]
    for number, command in enumerate(commands):
        folder = day.folder / f"fails-{number}"
        folder.mkdir()
        if command[0] != "task-submit":
            shutil.copytree(done, folder, dirs_exist_ok=True)
        tries.append(([*command, "--json"], folder, debug | wrong[number % len(wrong)]))
    with ThreadPoolExecutor(3) as threads:
        list(
            threads.map(lambda one: day.run("client", ["leruli", *one[0]], one[1], **one[2]), tries)
        )
    values = [stack.secrets[name] for name in ("user_secret", "object_store_secret", "group_token")]
    values.append(stack.secrets["object_store_access"])
    with watch.looking_away(), ThreadPoolExecutor(3) as threads:
        typed = [
            ["leruli", *words, value]
            for value, words in zip(cycle(values), _TAKE_A_WORD, strict=False)
        ]
        typed += [["leruli-queue", value] for value in values[:1]]
        typed += [["leruli-queue", "group-disable", values[0]], ["leruli-queue", "up", values[0]]]
        list(threads.map(lambda words: day.run("client", words, day.folder, **debug), typed))


# Each of these is given a secret as its next word.
_TAKE_A_WORD = (
    ["task-status"],
    ["task-cancel"],
    ["task-get", "--json"],
    ["task-purge", "--force", str(uuid4())],
    ["publish-code", "leruli-test"],
    ["task-submit", "leruli-test", "1", "--cores"],
    ["task-submit", "--batch"],
    ["task-submit", "--json", "leruli-test"],
    ["list-codes"],
    [],
)


def _mistype_settings(day: Day, password: str) -> None:
    """The operator's commands with addresses of the database as people mistype them."""
    wrong = day.note("mistyped password", secrets.token_hex(20))
    server = f"?host={day.stack.data / 'run' / 'postgres'}"
    urls = {
        "no @": f"postgresql://leruli:{wrong}",
        "as the host": f"postgresql://leruli@{wrong}/db",
        "as the user": f"postgresql://{wrong}:x@/postgres{server}",
        "as the database": f"postgresql://leruli:{password}@/{wrong}{server}",
        "as a setting": f"postgresql://leruli:{password}@/postgres{server}&pasword={wrong}",
    }
    commands = [["group-list"], ["group-create", "x"], ["migrate"], ["serve"], ["dispatch"]]
    with ThreadPoolExecutor(3) as threads:
        for (name, url), command in zip(urls.items(), cycle(commands), strict=False):
            folder = day.folder / f"mistyped {name}"
            folder.mkdir()
            environment = {"LERULI_QUEUE_DATABASE_URL": url, "LERULI_QUEUE_LISTEN_PORT": "9"}
            threads.submit(day.run, "commands", ["leruli-queue", *command], folder, **environment)


def _rotate(day: Day, right: Mapping[str, str]) -> None:
    stack = day.stack
    admin, user = right["adminsecret"], right["secret"]
    new = day.ask("group-rotate-compute-secret", "new", adminsecret=admin)
    day.note("rotated compute secret", new)
    machine = {"grouptoken": right["grouptoken"], "name": "fourth", **_MACHINE}
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
    told = day.ask("group-image-tokens", "new", secret=user)
    assert told == {"tokens": [token, right["grouptoken"]]}
    for call in ("group-activity", "group-usage"):
        day.ask(call, grouptoken=token)
        refused = stack.call(call, grouptoken=right["grouptoken"])
        assert refused.status_code == 403
        day.answers.append((call, refused))
    log = stack.data / "logs" / "node.log"
    wait_for(
        lambda: f'"key": "{token.split("-")[1]}"' in log.read_text(errors="replace"),
        seconds=60,
        what="the node has been told the new group token",
    )


# What stands in each place, so that one that was not looked into is not taken for a clean one.
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
def test_no_secret_stands_in(day: Day, place: str) -> None:
    shown = day.seen[place]
    everything = "\n".join(shown.values())
    assert [mark for mark in _LANDMARKS[place] if mark not in everything] == []
    leaks = []
    for where, text in shown.items():
        allowed = []
        # The client is told which bucket, and the database has it; nobody else.
        if place == "client" or where == "public.jobs.bucket":
            allowed = day.buckets
        # PostgreSQL notes under which name somebody tries to come in, and shows it meanwhile.
        if where == "postgres.log" or place == "process list":
            allowed = ["mistyped password"]
        leaks += [f"{where}: {name}" for name in day.canaries.found(text, allowed=allowed)]
    assert not leaks, "\n".join(leaks)
