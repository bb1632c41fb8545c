"""`leruli group`: its requests, its output, and that no secret leaks.

The service is the FAKE with scripted answers; test_group_real.py has the real one.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

CLI = Path(__file__).parents[3] / "cli"
ADMIN = "lqa-adminadmin-adminadminadminadminadminad-2345672"
MADE = "lqa-freshfresh-freshfreshfreshfreshfreshfr-7654327"
CANARY = "a canary of no known form"


@pytest.fixture
def group(leruli, service):
    """Run `leruli group` as an admin."""

    def run(*arguments, **settings):
        return leruli("group", *arguments, **{"LERULI_ADMIN_SECRET": ADMIN, **settings})

    return run


@pytest.fixture
def bodies(service):
    """Script an answer for a path; the list that is returned fills with the bodies sent."""

    def script(path, *answers):
        seen = []

        def answer(body):
            seen.append(body)
            status, document = answers[min(len(seen), len(answers)) - 1]
            return status, document

        service.scripted[path] = answer
        return seen

    return script


def test_a_new_secret_alone_goes_to_standard_output(group, bodies):
    sent = bodies("group-create-user", (200, MADE))

    done = group("create-user", "ada")

    assert done.stdout == f"{MADE}\n"
    assert "export LERULI_API_SECRET=" in done.stderr
    assert MADE not in done.stderr
    assert sent == [{"adminsecret": ADMIN, "name": "ada", "admin": False}]
    assert group("create-user", "--admin", "--quiet", "eve").stderr == ""
    assert sent[-1]["admin"] is True
    document = json.loads(group("create-user", "--json", "ada").stdout)
    assert document == {"name": "ada", "role": "user", "secret": MADE}


def test_a_user_whose_answer_was_lost_is_not_made_twice(group, service, bodies, lost_answer):
    sent = bodies("group-create-user", (200, MADE), (409, {"detail": "ada is there."}))
    service.faults.append(lost_answer)

    done = group("create-user", "ada")

    assert done.returncode == 5
    assert done.stdout == ""
    assert "leruli group users" in done.stderr
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("status", "exit_code"), [(403, 3), (404, 4), (409, 1), (422, 1), (413, 1), (500, 5)]
)
def test_refusals(group, bodies, status, exit_code):
    bodies("group-revoke-user", (status, {"detail": "Because of this."}))
    done = group("revoke-user", "--yes", "ada")
    assert done.returncode == exit_code
    assert "Because of this." in done.stderr
    if status == 403:
        assert "did not accept LERULI_ADMIN_SECRET" in done.stderr


def test_a_throttled_call_waits_as_long_as_the_service_says(group, service, bodies):
    bodies("group-list-users", (200, {"users": []}))
    service.faults.append((429, {"Retry-After": "2"}))
    started = time.monotonic()
    assert group("users").returncode == 0
    assert time.monotonic() - started >= 2


def test_nothing_is_revoked_or_rotated_without_a_confirmation(group, service):
    for arguments in (["revoke-user", "ada"], ["rotate-compute-secret"]):
        done = group(*arguments)
        assert done.returncode == 2
        assert "--yes" in done.stderr
    assert service.calls == []


def test_without_a_terminal_the_secret_is_not_asked_for(group, service):
    done = group("users", LERULI_ADMIN_SECRET="")
    assert done.returncode == 3
    assert "LERULI_ADMIN_SECRET is not set" in done.stderr
    assert service.calls == []


def test_the_token_is_fetched_unless_it_is_set(group, service, bodies):
    from client_fake_service import GROUP_TOKEN

    sent = bodies("group-usage", (200, {"rows": []}))
    assert group("usage").returncode == 0
    assert service.calls == ["group-token", "group-usage"]
    assert sent[0]["grouptoken"] == GROUP_TOKEN
    other = GROUP_TOKEN.replace("lqg-kl", "lqg-ab")
    assert group("usage", LERULI_GROUP_TOKEN=other, LERULI_API_SECRET="").returncode == 0
    assert sent[1]["grouptoken"] == other
    assert group("token", "--quiet").stdout == f"{GROUP_TOKEN}\n"


def job(number):
    return {
        "jobid": f"job-{number}",
        "user": "ada",
        "name": "water",
        "code": "psi4",
        "version": "1.5",
        "cores": 4,
        "memorymb": 4000,
        "state": "running",
        "reason": None,
        "exitcode": None,
        "attempts": 1,
        "receivedat": "2026-11-24T08:30:00Z",
        "submittedat": None,
        "runningat": None,
        "endedat": None,
    }


def test_activity_reads_all_pages(group, bodies):
    pages = [
        (200, {"jobs": [job(number) for number in range(1000)], "next": "job-999"}),
        (200, {"jobs": [job(number) for number in range(1000, 1500)], "next": None}),
    ]
    sent = bodies("group-activity", *pages)

    done = group(
        *("activity", "--all", "--json", "--state", "running", "--state", "failed"),
        *("--user", "ada", "--since", "2026-11-01T00:00Z", "--until", "2026-12-01T00:00Z"),
    )

    assert len(json.loads(done.stdout)["jobs"]) == 1500
    assert [body["after"] for body in sent] == [None, "job-999"]
    assert sent[0]["states"] == ["running", "failed"]
    assert sent[0]["user"] == "ada"
    assert sent[0]["since"].startswith("2026-11-01T00:00:00")
    assert sent[0]["until"].startswith("2026-12-01T00:00:00")


def test_activity_stops_at_the_limit_and_says_so(group, bodies):
    page = (200, {"jobs": [job(1), job(2)], "next": "job-2"})
    sent = bodies("group-activity", page)
    done = group("activity", "--limit", "2", "--after", "job-0")
    assert done.stdout.splitlines()[0].startswith("job\tuser\tname\tcode")
    assert done.stdout.splitlines()[2].startswith("job-2\tada\twater\tpsi4\t1.5\t4\t4000\trunning")
    assert "--after job-2" in done.stderr
    assert [(body["limit"], body["after"]) for body in sent] == [(2, "job-0")]


def test_a_page_that_fails_ends_the_document(group, bodies):
    bodies(
        "group-activity",
        (200, {"jobs": [job(1)], "next": "job-1"}),
        (403, {"detail": "The token was revoked."}),
    )
    done = group("activity", "--all", "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert len(document["jobs"]) == 1
    assert document["error"]["exit_code"] == 3


def test_usage_by_some_keys(group, bodies):
    row = {"user": "ada", "month": "2026-11", "jobs": 3, "completed": 2, "failed": 1}
    sent = bodies("group-usage", (200, {"rows": [{**row, "cancelled": 0, "corehours": 12.25}]}))
    done = group("usage", "--by", "user,month", "--since", "30d")
    assert done.stdout.splitlines() == [
        "user\tmonth\tjobs\tcompleted\tfailed\tcancelled\tcore hours\tCPU hours\tCPU %",
        # An older service answers no CPU hours.
        "ada\t2026-11\t3\t2\t1\t0\t12.25\t\t",
    ]
    assert sent[0]["by"] == ["user", "month"]
    assert sent[0]["format"] == "json"
    assert group("usage", "--by", "node").returncode == 2
    assert group("usage", "--csv", "--json").returncode == 2


def test_audit(group, bodies):
    entry = {"id": 7, "at": "2026-11-24T08:30:00Z", "actor": "eve", "action": "user-created"}
    sent = bodies(
        "group-audit", (200, {"entries": [{**entry, "subject": "ada", "detail": None}], "next": 7})
    )
    done = group("audit", "--action", "user-created", "--limit", "1", "--after", "9")
    assert "7\t2026-11-24T08:30:00Z\teve\tuser-created\tada" in done.stdout
    assert sent[0]["after"] == 9
    assert sent[0]["adminsecret"] == ADMIN


def on_terminal(arguments, answers, **settings):
    """Run the client on a terminal of its own; returns its exit code and all that was shown.

    `answers` are typed one after the other, each when the screen ends in ": ".
    """
    pid, screen = pty.fork()
    if pid == 0:
        values = {**os.environ, "PYTHONPATH": str(CLI), "COLUMNS": "250", **settings}
        command = [sys.executable, "-m", "leruli", *arguments]
        os.execve(sys.executable, command, values)  # noqa: S606  # there is no other way here
    shown, waiting = "", list(answers)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not select.select([screen], [], [], 0.1)[0]:
            if waiting and shown.rstrip(" ").endswith(":"):
                shown += "\n"
                os.write(screen, f"{waiting.pop(0)}\n".encode())
            continue
        try:
            data = os.read(screen, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data.decode()
    _, status = os.waitpid(pid, 0)
    os.close(screen)
    return os.waitstatus_to_exitcode(status), shown


def test_on_a_terminal_the_secret_is_asked_for_without_echo(environment, service, bodies):
    sent = bodies("group-list-users", (200, {"users": [{"name": "ada", "role": "admin"}]}))
    code, shown = on_terminal(["group", "users"], [CANARY], LERULI_ADMIN_SECRET="")
    assert code == 0, shown
    assert sent[0]["adminsecret"] == CANARY
    assert "ada" in shown
    assert CANARY not in shown


def test_a_secret_that_was_typed_is_hidden_like_the_others(environment, service, bodies):
    bodies("group-list-users", (403, {"detail": f"What is {CANARY}?"}))
    code, shown = on_terminal(
        ["group", "users"], [CANARY], LERULI_ADMIN_SECRET="", LERULI_DEBUG="1"
    )
    assert code == 3, shown
    assert "Traceback" in shown
    assert "What is [hidden]?" in shown
    assert CANARY not in shown


@pytest.mark.parametrize(("answer", "code", "calls"), [("y", 0, 1), ("n", 1, 0), ("", 1, 0)])
def test_on_a_terminal_revoking_asks_for_a_confirmation(
    environment, service, bodies, answer, code, calls
):
    sent = bodies("group-revoke-user", (200, {"name": "ada", "revokedat": "2026-11-24T08:30:00Z"}))
    ended, shown = on_terminal(["group", "revoke-user", "ada"], [answer], LERULI_ADMIN_SECRET=ADMIN)
    assert (ended, len(sent)) == (code, calls), shown


EVERY_VERB = [
    ["users"],
    ["create-user", "ada"],
    ["revoke-user", "--yes", "ada"],
    ["rotate-compute-secret", "--yes"],
    ["audit"],
]


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("arguments", EVERY_VERB, ids=lambda words: words[0])
def test_the_admin_secret_is_in_no_output(group, service, arguments, as_json):
    """Neither when the service quotes it, nor in tracebacks."""
    answers = [
        *((status, {"detail": f"What is {ADMIN}, or {CANARY}?"}) for status in (403, 409, 500)),
        (200, {"unexpected": f"{ADMIN} {CANARY}"}),
        (200, None),
    ]
    for secret in (ADMIN, CANARY):
        for answer in answers:
            service.scripted = dict.fromkeys(
                (
                    *("group-list-users", "group-create-user", "group-revoke-user"),
                    *("group-rotate-compute-secret", "group-audit"),
                ),
                lambda body, answer=answer: answer,
            )
            done = group(*arguments, *as_json, LERULI_ADMIN_SECRET=secret, LERULI_DEBUG="1")
            assert done.returncode != 0
            assert "Traceback" in done.stderr
            assert secret not in done.stdout + done.stderr


def test_the_admin_secret_is_in_no_process_list(environment, service, bodies):
    asked, go_on = threading.Event(), threading.Event()

    def answer(body):
        asked.set()
        go_on.wait(20)
        return 200, MADE

    service.scripted["group-create-user"] = answer
    process = subprocess.Popen(
        [sys.executable, "-m", "leruli", "group", "create-user", "ada"],
        env={**os.environ, "PYTHONPATH": str(CLI), "LERULI_ADMIN_SECRET": ADMIN},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert asked.wait(20)
        listed = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    finally:
        go_on.set()
        process.wait(timeout=20)
    assert "group create-user ada" in listed
    assert ADMIN not in listed


def test_resume_node_sends_the_node(group, bodies):
    sent = bodies("group-node-resume", (200, {"nodeid": "an-id", "name": "carbon"}))
    done = group("resume-node", "an-id", "--json")
    assert json.loads(done.stdout) == {"nodeid": "an-id", "name": "carbon"}
    assert sent == [{"adminsecret": ADMIN, "node": "an-id"}]


def test_a_drain_sends_the_deadline_and_a_removal_asks(group, bodies):
    sent = bodies("group-node-drain", (200, {"nodeid": "an-id", "name": "carbon"}))
    assert group("drain-node", "carbon", "--deadline", "60").returncode == 0
    assert sent[0]["deadline"] == 60
    removed = bodies("group-node-remove", (200, {"name": "carbon", "requeued": 1}))
    assert group("remove-node", "carbon").returncode != 0
    assert removed == []
    done = group("remove-node", "--yes", "carbon")
    assert done.stdout == "carbon is removed; 1 job went back to the queue.\n"
