"""Requests with a secret in every possible place, most of them wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any
from uuid import uuid4

import httpx
from canaries import is_ours
from service_world import signing_request

from leruli_queue.access.roles import RULES, Call

_AT_ONCE = 4
_LARGE = 10_000
# Fields that a call needs beside the wrong one.
_RIGHT = {
    "jobid": str(uuid4()),
    "attempt": 1,
    "reference": "nothing",
    "jobs": [{"codeversion": "leruli-test:1"}],
    "bucketid": str(uuid4()),
    "codeversion": "leruli-test:1",
    "startkey": uuid4().hex,
    "outcome": "ended",
    "name": "nobody",
    "cores": 1,
    "memorymb": 100,
    "csr": signing_request(),
    "node": "nobody",
}
_METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD")


@dataclass(frozen=True)
class Asked:
    """One request to send."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, client: httpx.Client) -> tuple[str, httpx.Response] | None:
        """Send it; return its description and the answer, None if a large body was cut off."""
        headers = {"Content-Type": "application/json", **self.headers}
        try:
            answer = client.request(self.method, self.path, content=self.body, headers=headers)
        except (httpx.ReadError, httpx.WriteError):
            # The service refuses such a body and closes the connection before reading all of it.
            assert len(self.body) > _LARGE, self
            return None
        return f"{self.method} {self.path[:40]} {self.body[:80]!r}", answer


def send_all(base_url: str, asked: Iterator[Asked]) -> list[tuple[str, httpx.Response]]:
    """Send requests, a few at once."""
    with (
        httpx.Client(
            base_url=base_url,
            timeout=60,
            trust_env=False,
            # The service closes a connection after a wrong request.
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as client,
        ThreadPoolExecutor(_AT_ONCE) as threads,
    ):
        answers = threads.map(lambda each: each.send(client), asked)
        return [answer for answer in answers if answer is not None]


def wrong_requests(
    openapi: Any, secrets: Mapping[str, str], right: Mapping[str, str], most_bytes: int
) -> Iterator[Asked]:
    """Yield wrong requests to every call.

    Parameters
    ----------
    secrets
        All secrets that must not be visible, by name.
    right
        A valid secret for each field of the body that takes one.
    """
    values = cycle(secrets.values())
    # The service cannot recognise a secret of others, and stores it as typed.
    ours = cycle([value for value in secrets.values() if is_ours(value)])
    for call, rule in RULES.items():
        if not rule.fields:
            continue
        path = f"/v22_1/{call}"
        fields = _fields_of(openapi, path)
        body = {name: _RIGHT[name] for name in fields if name in _RIGHT}
        authorised = body | {name: right[name] for name in rule.fields}
        for name in fields:
            if name in rule.fields:
                # Every secret that is wrong in this field.
                for value in set(secrets.values()) - _rightful(name, right):
                    yield _post(path, call, body | {name: value})
            else:
                # A few secrets per field. Over all calls each is tried in each kind of field.
                yield _post(path, call, body | {name: next(values)})
                for value in islice(ours, 2):
                    if name == "newtoken" and value == right["grouptoken"]:
                        continue  # a valid secret, which the service accepts
                    yield _post(path, call, authorised | {name: value})
            value = next(ours)
            for wrong in ([value], {value: value}, {"x": [value]}, f"\ud800{value}", f"{value}\0"):
                yield _post(path, call, authorised | {name: wrong})
        if call is Call.TASK_CHECK:
            for name in _RIGHT:
                wrong_job = {"codeversion": "leruli-test:1", name: next(ours)}
                yield _post(path, call, authorised | {"jobs": [wrong_job]})
        yield from _wrong_as_a_whole(path, authorised, values, most_bytes)
    for value in secrets.values():
        yield from _elsewhere(value)


def _rightful(name: str, right: Mapping[str, str]) -> set[str]:
    # An admin is also a user.
    return {right[name], right["adminsecret"]} if name == "secret" else {right[name]}


def _post(path: str, call: Call, body: Any) -> Asked:
    whole = [body, body] if call is Call.BULK_TASK_SUBMIT else body
    return Asked("POST", path, json.dumps(whole).encode())


def _wrong_as_a_whole(
    path: str, authorised: Mapping[str, Any], values: Iterator[str], most_bytes: int
) -> Iterator[Asked]:
    text = json.dumps(authorised).encode()
    yield Asked("POST", path, text[:-1])
    yield Asked("POST", path, text.replace(b'"', b"'"))
    yield Asked("POST", path, text.replace(b":", b": \xff", 1))
    yield Asked("POST", path, text + b" " * most_bytes)
    yield Asked("POST", path, text, {"Content-Type": "text/plain"})
    yield Asked("POST", path, text, {"Content-Type": "application/x-www-form-urlencoded"})
    yield Asked("POST", f"{path}/", text)
    for wrong in ("{}", [["{}"]], ["{}"], {"{}": 1}, {"secret": {"{}": 1}}):
        yield Asked("POST", path, json.dumps(wrong).replace("{}", next(values)).encode())
    for method in _METHODS:
        yield Asked(method, f"{path}?secret={next(values)}", text)


def _elsewhere(value: str) -> Iterator[Asked]:
    for path in ("/{}", "/v22_1/{}", "/latest/{}/x", "/v22_1/task-status/{}", "/{}/run.tgz"):
        yield Asked("POST", path.format(value), b"{}")
        yield Asked("GET", path.format(value))
    for path in ("/v22_1/task-status", "/v22_1/task-status/", "/livez/", "/metrics", "/nothing/"):
        yield Asked("POST", f"{path}?secret={value}&{value}=1", b"{}")
        yield Asked("GET", f"{path}?secret={value}&{value}=1")
    yield Asked(value, "/v22_1/task-status")
    headers = {
        "Authorization": f"Bearer {value}",
        "Cookie": f"secret={value}",
        "User-Agent": value,
        "X-Forwarded-For": value,
        "X-Nomad-Token": value,
        "Content-Type": f"application/{value}",
        "Accept": value,
        "Host": value,
    }
    for name, text in headers.items():
        yield Asked("POST", "/v22_1/task-status", b"{}", {name: text})
    # A request id may be any text of its form, except one of our secrets.
    if is_ours(value):
        for given in (value, f"x_{value}", f"{value}."):
            yield Asked("POST", "/v22_1/task-status", b"{}", {"X-Request-ID": given})


def _fields_of(openapi: Any, path: str) -> list[str]:
    content = openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = content["schema"]
    name = schema["$ref"].rsplit("/", 1)[1] if "$ref" in schema else "TaskSubmit"
    known = openapi["components"]["schemas"].get(name)
    if known is None:  # nothing in the description names the body of one job of a bulk
        known = openapi["components"]["schemas"]["TaskSubmit"]
    return list(known["properties"])
