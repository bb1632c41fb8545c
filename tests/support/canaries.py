"""Secrets of a stack as canaries, and the places in which none of them may be visible."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from e2e_world import BIN, StackOfTest

# The value of the agent's own node token is unknown, so search for its form.
_FORM = re.compile(r"lq[agcn]-[a-z2-7]{10}-[a-z2-7]{4}", re.IGNORECASE)
_SAMPLE_EVERY_S = 0.1


def is_ours(value: str) -> bool:
    """Return whether a secret has the form that the service recognises."""
    return _FORM.match(value) is not None


class Canaries:
    """Secrets by name. Half of a secret counts as found, also in base64 or in hex."""

    def __init__(self) -> None:
        self._traces: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        # The first parts of a signed token and of a typed secret are not secret.
        parts = value.split("." if value.count(".") == 2 else "-")
        private = parts[2] if len(parts) in (3, 4) else value
        assert len(private) >= 16, f"{name} is so short that it could occur by chance"
        middle = len(private) // 2
        encoded = [
            # Without the characters at the ends, which depend on the neighbouring bytes.
            base64.b64encode(b"x" * shift + private.encode()).decode().rstrip("=")[4:-2]
            for shift in range(3)
        ]
        hexadecimal = private.encode().hex()
        self._traces[name] = [private[:middle], private[middle:], *encoded, hexadecimal]

    def found(self, text: str, *, allowed: Iterable[str] = ()) -> list[str]:
        """Return names of the secrets in a text; unknown secrets are named by their key id."""
        names = [
            name
            for name, traces in self._traces.items()
            if name not in allowed and any(trace in text for trace in traces)
        ]
        if not names and not allowed and (match := _FORM.search(text)):
            names.append(f"a secret that nobody planted, {match.group()[:14]}")
        return names


@dataclass
class Day:
    """Everything that a stack showed, by place."""

    stack: StackOfTest
    folder: Path
    canaries: Canaries = field(default_factory=Canaries)
    secrets: dict[str, str] = field(default_factory=dict)
    buckets: list[str] = field(default_factory=list)
    answers: list[tuple[str, httpx.Response]] = field(default_factory=list)
    seen: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, name: str, value: str) -> str:
        """Record a secret that must not be visible, and return it."""
        self.canaries.add(name, value)
        self.secrets[name] = value
        return value

    def ask(self, call: str, shows: str | None = None, /, **body: object) -> Any:
        """Make a valid call. Its answer may show only the secret named by ``shows``."""
        answer = self.stack.call(call, **body)
        assert answer.status_code == 200, answer.text
        if shows is None:
            self.answers.append((call, answer))
        else:
            text = json.dumps(dict(answer.headers))
            assert self.canaries.found(text) == [], f"{call} shows a secret in its headers"
        return answer.json()

    def note_bucket(self, name: str, bucket: str) -> str:
        """Record the bucket of a job, which only its user may see, and return it."""
        self.canaries.add(f"bucket of {name}", bucket)
        self.buckets.append(f"bucket of {name}")
        return bucket

    def job(self, name: str, command: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        self.stack.submit(folder, command, "--memory", "200")
        self.note_bucket(name, (folder / "leruli.bucket").read_text().strip())
        return folder

    def run(self, where: str, arguments: list[str], folder: Path, **environment: str) -> str:
        """Run a command line and keep what it prints."""
        done = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            cwd=folder,
            env=self.stack.user | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        key = f"{arguments} {sorted(environment)} in {folder.name}, exit code {done.returncode}"
        self.seen.setdefault(where, {})[key] = done.stdout + done.stderr
        return done.stdout


class ProcessWatch:
    """The command lines of all processes, read repeatedly inside the block."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Pause. A secret as an argument is visible in the user's own process list anyway."""
        with self._looking:
            yield

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_EVERY_S):
            with self._looking:
                self.lines |= set(_command_lines())


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


def logs_of(stack: StackOfTest) -> dict[str, str]:
    """Return every log of a stack, by the name of its file."""
    folders = (stack.data / "logs", stack.data / "node" / "logs")
    paths = [path for folder in folders for path in folder.iterdir()]
    return {path.name: path.read_text(errors="replace") for path in paths}


def nomad_of(stack: StackOfTest) -> dict[str, str]:
    """Return the answers of Nomad's API about jobs, allocations, evaluations, nodes, by path."""
    anywhere = "namespace=*"
    lists = {
        "job": f"/v1/jobs?{anywhere}&meta=true",
        "allocation": f"/v1/allocations?{anywhere}",
        "evaluation": f"/v1/evaluations?{anywhere}",
        "node": "/v1/nodes?resources=true",
    }
    shown = {}
    for kind, path in lists.items():
        found = stack.nomad(path)
        shown[path] = json.dumps(found)
        for each in found:
            name = each["ID"].replace("/", "%2F")
            one = f"/v1/{kind}/{name}?namespace={each.get('Namespace', 'default')}"
            shown[one] = json.dumps(stack.nomad(one))
    return shown


_COLUMNS = """
SELECT format('%I.%I', table_schema, table_name) AS table, column_name AS column
FROM information_schema.columns JOIN information_schema.tables
    USING (table_schema, table_name)
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
UNION VALUES ('pg_catalog.pg_authid', 'rolpassword'), ('pg_catalog.pg_stat_activity', 'query')
"""


def database_of(stack: StackOfTest) -> dict[str, str]:
    """Return all rows of every column of every table as text, by `schema.table.column`."""
    dumped = {}
    for where in stack.fetch(_COLUMNS):
        column = '"' + where["column"] + '"'
        rows = stack.fetch(f"SELECT {column}::text AS text FROM {where['table']}")  # noqa: S608
        dumped[f"{where['table']}.{where['column']}"] = "\n".join(str(row["text"]) for row in rows)
    return dumped
