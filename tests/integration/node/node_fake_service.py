"""A FAKE of the service's calls for agents, with faults on demand.

The real service is exercised with the agent in tests/e2e. This one keeps to the same answers and
lets a test take the service away, lose an answer or count what was asked.
"""

from __future__ import annotations

import json
import threading
import uuid
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from leruli_queue.nodes.certificates import Authority, make_authority


class FakeService:
    """One process-wide fake; `url` is for LERULI_BASEURL."""

    def __init__(
        self, servers: list[str] | None = None, authority: Authority | None = None
    ) -> None:
        self.authority = authority or make_authority()
        self.certificate_seconds = 86400.0
        self.standing: tuple[str, str | None] = ("usable", None)
        # So long that a test that does not ask for reports sees the first one only.
        self.report_seconds = 3600.0
        self.silence_seconds = 80.0
        self.prefix = f"leruli.test/{uuid.uuid4().hex[:10]}"
        self.compute_secret = "lqc-" + uuid.uuid4().hex
        self.nomad = {
            "servers": servers or ["127.0.0.1:1"],
            "region": "global",
            "datacenter": "dc1",
            "pool": "group-of-tests",
            "introtoken": "an.introduction.token",
        }
        self.lock = threading.RLock()
        self.leases: dict[tuple[str, int], dict[str, Any]] = {}
        self.startkeys: dict[tuple[str, int], str] = {}
        self.receipts: dict[tuple[str, int], dict[str, Any]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refused_ends: dict[tuple[str, int], int] = {}
        self.stale: set[tuple[str, int]] = set()
        self.cancelled: set[tuple[str, int]] = set()
        self.lose_answers: dict[str, int] = {}
        self.down = False
        # What a proxy before the service says instead of it: a status and a page.
        self.proxy: tuple[int, bytes] | None = None
        self.nodeid = str(uuid.uuid4())
        self.tokens: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = self.path.removeprefix("/v22_1/")
                if fake.proxy:
                    self.send_response(fake.proxy[0])
                    self.send_header("Content-Length", str(len(fake.proxy[1])))
                    self.end_headers()
                    self.wfile.write(fake.proxy[1])
                    return
                code, answer = fake.answer(name, body)
                if code == 0:
                    self.close_connection = True
                    return
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("X-Request-ID", "as-the-real-one-has-it")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if servers is None:  # the agent tries whether they can be reached
            self.nomad["servers"] = [f"127.0.0.1:{self.server.server_address[1]}"]
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def count(self, name: str) -> int:
        with self.lock:
            return sum(1 for called, _ in self.calls if called == name)

    def answer(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.calls.append((name, body))
            if self.down:
                return 503, {"detail": "the service is away"}
            code, answer = self._answer(name, body)
            if self.lose_answers.get(name, 0) > 0:
                self.lose_answers[name] -= 1
                return 0, {}
            return code, answer

    def _answer(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if name == "node-join":
            if body["computesecret"] != self.compute_secret:
                return 403, {"detail": "the compute secret is not valid"}
            token = "lqn-" + uuid.uuid4().hex
            self.tokens = [token]
            return 200, {
                "nodeid": body["nodeid"] or self.nodeid,
                "nodetoken": token,
                "nomad": self.nomad,
                "tls": self._certificate(body),
                "imageprefix": self.prefix,
                "reportseconds": self.report_seconds,
            }
        if body["nodetoken"] not in self.tokens:
            return 403, {"detail": "the node token is not valid"}
        if name == "node-leave":
            return 200, {"running": 0}
        if name == "node-certificate":
            return 200, self._certificate(body)
        if name == "node-report":
            standing, reason = self.standing
            held = {(one["jobid"], one["attempt"]) for one in body["attempts"]}
            drop = [{"jobid": job, "attempt": number} for job, number in held & self.stale]
            cancel = [{"jobid": job, "attempt": number} for job, number in held & self.cancelled]
            return 200, {
                "standing": standing,
                "reason": reason,
                "drop": drop,
                "cancel": cancel,
                "reportseconds": self.report_seconds,
            }
        key = (body["jobid"], body["attempt"])
        if key in self.stale or key not in self.leases:
            return 409, {"detail": "this attempt is not the current one", "drop": True}
        if name == "attempt-start":
            if self.startkeys.setdefault(key, body["startkey"]) != body["startkey"]:
                return 409, {"detail": "this attempt was started before", "drop": True}
            return 200, self.leases[key]
        if name == "attempt-upload":
            return 200, {"silenceseconds": self.silence_seconds}
        if name == "attempt-end":
            if key in self.refused_ends:
                return self.refused_ends[key], {"detail": "not like this"}
            self.receipts.setdefault(key, body)
            return 200, {}
        return 404, {"detail": "no such call"}

    def _certificate(self, body: dict[str, Any]) -> dict[str, Any]:
        lifetime = timedelta(seconds=self.certificate_seconds)
        node_id = uuid.UUID(self.nodeid)
        return {
            "ca": self.authority.pem,
            "certificate": self.authority.sign_node(body["csr"], node_id, "global", lifetime),
            "validseconds": self.certificate_seconds,
        }
