"""A FAKE of the queue's HTTP service, for faults that the real one cannot show on demand.

It accepts jobs, answers the same bucket with the same job id, and fails on demand: a lost answer, a
503 with Retry-After. It proves nothing about the real service; tests/e2e does that.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "lqa-abcdefghij-abcdefghijklmnopqrstuvwxyz-2345672"
GROUP_TOKEN = "lqg-klmnopqrst-abcdefghijklmnopqrstuvwxyz-7654327"

#: A fault before the fake reads a request: a status with headers, or a lost answer.
Fault = tuple[int, dict[str, str]]

#: The fake accepts the job, then the connection breaks before the answer.
LOST_ANSWER: Fault = (0, {})

#: Calls that this fake lacks, as an older service does.
_NEWER_CALLS = (
    *("group-image-tokens", "task-resolve", "task-detail", "task-check", "task-events"),
    *("task-follow", "batch-mail"),
)


@dataclass
class FakeService:
    """The state of the fake, which tests read and set."""

    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  #: bucket: job
    states: dict[str, tuple[str, str | None]] = field(default_factory=dict)  #: job id: state
    faults: deque[Fault] = field(default_factory=deque)
    calls: list[str] = field(default_factory=list)  #: paths, in order
    bulk_sizes: list[int] = field(default_factory=list)
    refuse: Callable[[dict[str, Any]], tuple[int, str] | None] = lambda _: None
    #: By path, a function of the body that returns another status and document.
    scripted: dict[str, Callable[[Any], tuple[int, Any]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        """Return status and document for a call."""
        with self.lock:
            self.calls.append(path)
            if path in self.scripted:
                return self.scripted[path](body)
            if path == "bulk/task-submit":
                self.bulk_sizes.append(len(body))
                entries = [self._submit(job) for job in body]
                return 200, [{"status": code, "data": data} for code, data in entries]
            if body["secret"] != SECRET:
                return 403, {"detail": "The secret is not known."}
            if path == "task-submit":
                code, data = self._submit(body)
                return code, data if code == 200 else {"detail": data}
            if path == "group-token":
                return 200, GROUP_TOKEN
            if path in _NEWER_CALLS:
                return 404, {"detail": "Not Found"}
            if path == "bulk/task-find":
                return 200, [self._find(bucket) for bucket in body["bucketids"]]
            return self._about_job(path, body["jobid"])

    def _submit(self, job: dict[str, Any]) -> tuple[int, str]:
        if job["secret"] != SECRET:
            return 403, "The secret is not known."
        refusal = self.refuse(job)
        if refusal is not None:
            return refusal
        known = self.jobs.setdefault(job["bucketid"], {**job, "id": str(uuid.uuid4())})
        self.states.setdefault(known["id"], ("received", None))
        return 200, known["id"]

    def _find(self, bucket: str) -> dict[str, Any]:
        job = self.jobs.get(bucket)
        if job is None:
            return {"status": 404, "data": "No job of yours was submitted with this bucket."}
        return {"status": 200, "data": job["id"]}

    def _about_job(self, path: str, jobid: str) -> tuple[int, Any]:
        if jobid not in self.states:
            return 404, {"detail": "There is no such job.", "status": "unknown", "reason": None}
        if path == "task-bucket":
            [bucket] = [name for name, job in self.jobs.items() if job["id"] == jobid]
            return 200, {"bucketid": bucket}
        if path == "task-cancel":
            self.states[jobid] = ("cancelled", "cancelled by its owner")
        status, reason = self.states[jobid]
        return 200, {"status": status, "reason": reason}


def serve(service: FakeService) -> ThreadingHTTPServer:
    """Start the fake on a free port; the caller shuts it down."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.removeprefix("/v22_1/")
            fault = None
            # A submit begins with these calls; faults are for the calls after them.
            if path not in ("group-token", "group-image-tokens", "task-check"):
                with service.lock:
                    fault = service.faults.popleft() if service.faults else None
            if fault is not None and fault[0] != 0:
                with service.lock:
                    service.calls.append(path)
                self._send(fault[0], {"detail": "not now"}, fault[1])
                return
            status, document = service.answer(path, body)
            if fault is not None:
                self.close_connection = True
                return
            self._send(status, document, {})

        def _send(self, status: int, document: Any, headers: dict[str, str]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
