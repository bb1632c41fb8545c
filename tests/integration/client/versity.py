"""A real S3 server for tests: versitygw with its IAM, one user who may not list buckets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What the group's key may do in production: everything but listing the buckets.
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"},
        {"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"},
    ],
}


@dataclass(frozen=True)
class S3Server:
    """A running server and a key for it."""

    url: str
    access: str
    secret: str
    root: Path  #: where the objects are, as files
    kill: Callable[[], None]  #: end it as a crash of its machine would
    start: Callable[[], None]  #: start it again and wait until it answers


def find_versitygw() -> str:
    """The binary: LERULI_QUEUE_VERSITYGW, else beside this Python, else on the PATH."""
    named = os.environ.get("LERULI_QUEUE_VERSITYGW")
    beside = Path(sys.executable).with_name("versitygw")
    found = named or (str(beside) if beside.exists() else shutil.which("versitygw"))
    if not found:
        raise RuntimeError("no versitygw: set LERULI_QUEUE_VERSITYGW to its path")
    return found


@contextlib.contextmanager
def running_versitygw(folder: Path) -> Iterator[S3Server]:
    """Start the server with its data in `folder`; stop it when the block ends."""
    binary = find_versitygw()
    run, iam, root = folder / "run", folder / "iam", folder / "objects"
    for path in (run, iam, root):
        path.mkdir(parents=True)
    access, secret = "client-tests", secrets.token_hex(20)
    _write_user(iam / "iam.json", access, secret)
    environment = {
        **os.environ,
        "ROOT_ACCESS_KEY": "root-of-tests",
        "ROOT_SECRET_KEY": secrets.token_hex(20),
    }
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> None:
        with (folder / "log").open("ab") as log:
            processes.append(
                subprocess.Popen(
                    [binary, *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def start_gateway() -> None:
        start(
            *("-p", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "--health", "/health"),
            *("--iam-standalone-endpoint", str(run / "iam.sock")),
            *("posix", "--disable-object-lock-file", str(root)),
        )
        _wait_for(lambda: _answers(port))

    def kill_gateway() -> None:
        gateway = processes.pop()
        gateway.kill()
        gateway.wait()

    try:
        start(
            *("-p", str(run / "iam-public.sock"), "--quiet", "--keep-alive"),
            *("iam", "--dir", str(iam), "--private-ports", str(run / "iam.sock")),
            *("--private-socket-perm", "0600"),
        )
        _wait_for((run / "iam.sock").exists)
        start_gateway()
        yield S3Server(
            f"http://127.0.0.1:{port}", access, secret, root, kill_gateway, start_gateway
        )
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(10)


def _write_user(path: Path, access: str, secret: str) -> None:
    name, now = "tests", "2026-01-01T00:00:00Z"
    user = {
        "Path": "/",
        "UserName": name,
        "UserID": "AIDATESTS",
        "Arn": f"arn:aws:iam::000000000000:user/{name}",
        "CreateDate": now,
        "AccessKeys": [
            {
                "AccessKeyId": access,
                "SecretAccessKey": secret,
                "Status": "Active",
                "CreateDate": now,
            }
        ],
        "Policies": {
            "inline": [
                {
                    "PolicyName": "no-listing",
                    "PolicyDocument": json.dumps(POLICY),
                    "CreateDate": now,
                    "UpdateDate": now,
                }
            ]
        },
    }
    path.write_text(json.dumps({"users": {name: user}, "accessKeyIndex": {access: name}}))
    path.chmod(0o600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("versitygw did not start; see its log")
        time.sleep(0.02)
