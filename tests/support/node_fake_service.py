"""A FAKE of the service's calls for agents, with faults on demand.

tests/e2e tests the real service with the agent. This FAKE gives the same answers. A test can take
it away, make it lose an answer, or count its calls.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
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
        # Long enough that a test without reports sees only the first one.
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
        self.grants: dict[tuple[str, int], dict[str, Any]] = {}
        self.startkeys: dict[tuple[str, int], str] = {}
        self.receipts: dict[tuple[str, int], dict[str, Any]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refused_ends: dict[tuple[str, int], int] = {}
        self.stale: set[tuple[str, int]] = set()
        self.cancelled: set[tuple[str, int]] = set()
        self.followed: set[tuple[str, int]] = set()
        self.lose_answers: dict[str, int] = {}
        # What slots run next, in this order, and what was granted under which key.
        self.backlog: list[tuple[str, int]] = []
        self.granted: dict[str, list[tuple[str, int]]] = {}
        self.returned: set[tuple[str, int]] = set()
        self.down = False
        # Whether node-report is a long poll, as the real one's is.
        self.holds_reports = False
        # The status and page of a proxy that answers instead of the service.
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
                until = time.monotonic() + fake.report_seconds
                while code == 200 and "said" in answer and answer["said"] == body.get("known"):
                    if time.monotonic() >= until:
                        break
                    time.sleep(0.01)
                    with fake.lock:
                        code, answer = fake._answer(name, body)
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
            if self.holds_reports:  # as the real one: also what it granted since
                held |= set(self.grants) - set(self.receipts)
            drop = [{"jobid": job, "attempt": number} for job, number in held & self.stale]
            cancel = [{"jobid": job, "attempt": number} for job, number in held & self.cancelled]
            answer = {
                "standing": standing,
                "reason": reason,
                "drop": drop,
                "cancel": cancel,
                "reportseconds": self.report_seconds,
            }
            if self.followed:
                named = sorted(self.followed - set(self.receipts))
                answer["follow"] = [{"jobid": job, "attempt": number} for job, number in named]
            if self.holds_reports:
                answer["said"] = hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:16]
            return 200, answer
        if name == "slot-next":
            if any((r["jobid"], r["attempt"]) in self.refused_ends for r in body["receipts"]):
                return 422, {"detail": "not like this"}
            return 200, self._slot_next(body)
        key = (body["jobid"], body["attempt"])
        if key in self.stale or key not in self.grants:
            return 409, {"detail": "this attempt is not the current one", "drop": True}
        if name == "attempt-start":
            if self.startkeys.setdefault(key, body["startkey"]) != body["startkey"]:
                return 409, {"detail": "this attempt was started before", "drop": True}
            return 200, self.grants[key]
        if name == "attempt-upload":
            return 200, {"silenceseconds": self.silence_seconds}
        if name == "attempt-end":
            if key in self.refused_ends:
                return self.refused_ends[key], {"detail": "not like this"}
            self.receipts.setdefault(key, body)
            return 200, {}
        return 404, {"detail": "no such call"}

    def _slot_next(self, body: dict[str, Any]) -> dict[str, Any]:
        for one in body["returned"]:
            key = (one["jobid"], one["attempt"])
            self.returned.add(key)
            # As with the real one, another slot may get the job: as its next attempt there.
            if not any(key in granted for granted in self.granted.values()):
                continue
            for granted in self.granted.values():
                granted[:] = [other for other in granted if other != key]
            following = (key[0], key[1] + 1)
            self.grants[following] = self.grants[key]
            self.backlog.insert(0, following)
        receipts = [self._receipt(receipt) for receipt in body["receipts"]]
        slots = []
        for slot in body["slots"]:
            # As with the real one: what the key was granted before, as long as that has not ended.
            before = self.granted.setdefault(slot["key"], [])
            granted = [key for key in before if key not in self.receipts]
            if not granted:
                most = slot["most"] + slot["ahead"]
                granted, self.backlog = self.backlog[:most], self.backlog[most:]
                before += granted
            following = [
                {"jobid": job, "attempt": number, **self.grants[job, number]}
                for job, number in granted
            ]
            slots.append({"jobid": slot["jobid"], "attempt": slot["attempt"], "next": following})
        return {
            "receipts": receipts,
            "slots": slots,
            "silenceseconds": self.silence_seconds,
        }

    def _receipt(self, receipt: dict[str, Any]) -> dict[str, Any]:
        key = (receipt["jobid"], receipt["attempt"])
        stale = "this attempt is not the current one" if key in self.stale else None
        if stale is None:
            self.receipts.setdefault(key, receipt)
        return {"jobid": key[0], "attempt": key[1], "stale": stale}

    def _certificate(self, body: dict[str, Any]) -> dict[str, Any]:
        lifetime = timedelta(seconds=self.certificate_seconds)
        node_id = uuid.UUID(self.nodeid)
        return {
            "ca": self.authority.pem,
            "certificate": self.authority.sign_node(body["csr"], node_id, "global", lifetime),
            "validseconds": self.certificate_seconds,
        }
