"""Command lines with secrets in wrong places, in which no secret may be visible (canaries.py)."""

from __future__ import annotations

import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from uuid import uuid4

from canaries import Day, ProcessWatch


def use_the_client(day: Day, watch: ProcessWatch, done: Path, uploaded: Path) -> None:
    """Run every command: successfully, failing, and with a secret as a wrong argument."""
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
        # Has a revoked secret. With a valid one it would rightly print the group token.
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


# Each of these gets a secret as its next argument.
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


def mistype_settings(day: Day, password: str) -> None:
    """Run the operator's commands with mistyped addresses of the database."""
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
