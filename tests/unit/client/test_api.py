"""How answers become results and errors; what goes over the network is a fake."""

import email.utils
import io
import json
import time

import pytest
import urllib3
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError, SSLError

from leruli import api, connection
from leruli.errors import (
    AccessRefusedError,
    NotFoundError,
    RefusedError,
    SecretRefusedError,
    ServiceError,
    UnknownCallError,
)
from leruli.images import ImageTokens
from leruli.settings import ServiceSettings

JOB = api.JobRequest("bucket", "psi4", "1.5", 1, 4000, 60)


class FakePool:
    """A FAKE of urllib3's connections: a function answers what would be sent."""

    def __init__(self, handler):
        self.handler = handler

    def request(self, method, url, body, redirect):
        assert (method, redirect) == ("POST", False)
        assert url.startswith("http://queue.test/v22_1/")
        return self.handler(json.loads(body))


def service(handler, patience=0.0):
    made = api.Service(ServiceSettings("http://queue.test", "secret", patience))
    made._connection._pool = FakePool(handler)
    return made


def answer(status, document=None, headers=None, html=None):
    content = json.dumps(document) if html is None else html
    return urllib3.HTTPResponse(io.BytesIO(content.encode()), headers, status)


def refused():
    return NewConnectionError(None, "refused")


def answering(status, document=None, **headers):
    return service(lambda body: answer(status, document, headers))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((403, AccessRefusedError), (412, AccessRefusedError)),
        *((422, RefusedError), (409, RefusedError)),
        *((500, ServiceError), (503, ServiceError)),
    ],
)
def test_refusals(status, kind):
    with pytest.raises(kind):
        answering(status, {"detail": "The reason."}).submit(JOB)


def test_unknown_job():
    with pytest.raises(NotFoundError, match="no job abc"):
        answering(404, {"detail": "No.", "status": "unknown", "reason": None}).status("abc")


def test_details_of_fastapi_are_read():
    detail = [{"loc": ["body", "cores"], "msg": "must be at least 1", "input": "x"}]
    with pytest.raises(RefusedError, match=r"cores: must be at least 1\."):
        answering(422, {"detail": detail}).submit(JOB)


@pytest.mark.parametrize("document", [{"jobid": "x"}, 5, None])
def test_nonsense_is_not_taken_for_a_job(document):
    with pytest.raises(ServiceError, match="LERULI_BASEURL"):
        answering(200, document).submit(JOB)


def test_a_web_page_is_not_taken_for_an_answer():
    page = service(lambda body: answer(200, html="<h1>log in</h1>"))
    with pytest.raises(ServiceError, match="proxy"):
        page.group_token()


def test_bulk_answers_are_told_apart():
    entries = [(200, "id"), (403, "no"), (412, "no"), (422, "cores: too many")]
    made = answering(200, [{"status": status, "data": data} for status, data in entries])
    answers = made.submit_bulk([JOB] * 4)
    kinds = [str, SecretRefusedError, AccessRefusedError, RefusedError]
    assert [type(answer) for answer in answers] == kinds
    with pytest.raises(ServiceError):
        made.submit_bulk([JOB] * 3)
    with pytest.raises(ValueError, match="at most 1000"):
        made.submit_bulk([JOB] * 1001)


def test_server_errors_quote_the_request():
    broken = answering(500, {"detail": "It broke."}, **{"X-Request-ID": "req-1"})
    with pytest.raises(ServiceError, match="req-1"):
        broken.submit(JOB)


def test_connection_errors_are_tried_again_until_patience_ends():
    calls = []

    def handler(body):
        calls.append(body)
        if len(calls) == 1:
            raise refused()
        return answer(200, "id")

    assert service(handler, patience=5).submit(JOB) == "id"
    calls.clear()
    with pytest.raises(ServiceError, match="1 try"):
        service(handler, patience=0).submit(JOB)


@pytest.mark.parametrize(
    ("first", "calls_made"),
    [
        (refused(), 2),
        (answer(503, {"detail": "later"}), 2),
        (answer(429, {"detail": "later"}), 2),
        (ReadTimeoutError(None, "path", "no answer"), 1),
        (ProtocolError("Connection aborted.", ConnectionError("cut off")), 1),
        (answer(502, html="bad gateway"), 1),
    ],
)
def test_what_may_not_be_done_twice_is_repeated_only_while_it_was_not_done(first, calls_made):
    calls = []

    def handler(body):
        calls.append(body)
        if len(calls) > 1:
            return answer(200, "done")
        if isinstance(first, Exception):
            raise first
        return first

    line = service(handler, patience=5)._connection
    if calls_made == 2:
        assert line.call("path", {}, unclear="Look.") == "done"
    else:
        with pytest.raises(ServiceError, match=r"Look\.$"):
            line.call("path", {}, unclear="Look.")
    assert len(calls) == calls_made


FULL = {"detail": "The group has 5 jobs waiting, and no more than 5 may wait."}
COME_AGAIN = {"Retry-After": "60"}


@pytest.fixture
def slept(monkeypatch):
    """A clock that only sleeping moves; what was slept."""
    pauses = []
    monkeypatch.setattr(connection.time, "monotonic", lambda: sum(pauses))
    monkeypatch.setattr(connection.time, "sleep", pauses.append)
    return pauses


def busy(times, status=503, document=FULL, headers=COME_AGAIN):
    """A service that is busy so many times; what it tells goes into `told`."""
    answers = [answer(status, document, headers=headers)] * times
    made = service(lambda body: answers.pop() if answers else answer(200, []))
    made._connection.settings = ServiceSettings("http://queue.test", "secret")
    made.told = []
    made._connection._notice = made.told.append
    return made


def test_a_batch_comes_as_soon_as_it_is_told_to(slept):
    assert busy(200, headers={"Retry-After": "2"}).submit_bulk([], lambda: "") == []
    assert slept == [2.0] * 200


def test_a_batch_waits_for_as_long_as_it_is_told_to(slept):
    full = busy(200)
    assert full.submit_bulk([], lambda: "Submitted so far: 7 of 9 folders.") == []
    assert slept == [60.0] * 200
    assert set(full.told) == {
        "The queue is busy (HTTP 503); trying again in 60 s. The group has 5 jobs waiting, and no "
        "more than 5 may wait. Submitted so far: 7 of 9 folders."
    }


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({"headers": {}}, 120),  # it does not say when
        ({"document": {}}, 120),  # it is not the service that says so
        ({"status": 429}, 120),
        ({"status": 502}, 120),
    ],
)
def test_what_else_a_batch_meets_takes_its_patience(slept, more, seconds):
    with pytest.raises(ServiceError, match=r"in [0-9]+ tries"):
        busy(200, **more).submit_bulk([], lambda: "")
    assert seconds - 60 <= sum(slept) <= seconds


def test_patience_with_a_queue_that_is_away_begins_when_it_goes_away(slept):
    answers = [answer(503, FULL, headers=COME_AGAIN)] * 100

    def handler(body):
        if answers:
            return answers.pop()
        raise refused()

    made = service(handler, patience=30)
    with pytest.raises(ServiceError, match="did not answer"):
        made.submit_bulk([], lambda: "")
    assert sum(slept) - 6000 == pytest.approx(30)


@pytest.mark.parametrize(("is_submitting", "seconds"), [(True, 120), (False, 20)])
def test_a_queue_that_is_away_is_asked_for_as_long_as_promised(slept, is_submitting, seconds):
    """D14: a submission gave up after 15 s, as its first call was retried no longer than others."""

    def away(body):
        raise refused()

    made = service(away)
    made._connection.settings = ServiceSettings("http://queue.test", "secret")
    with pytest.raises(ServiceError, match="did not answer"):
        _ = ImageTokens(made, is_submitting=is_submitting).newest
    assert sum(slept) == pytest.approx(seconds)


def test_to_try_once_is_to_try_once(slept):
    made = busy(1)
    made._connection.settings = ServiceSettings("http://queue.test", "secret", 0)
    with pytest.raises(ServiceError, match=r"in 1 try\. The group has 5 jobs waiting"):
        made.submit_bulk([], lambda: "")
    assert slept == []


def test_a_single_submission_ends_with_the_services_sentence(slept):
    with pytest.raises(ServiceError, match=r"no more than 5 may wait\.$"):
        busy(200).submit(JOB)
    assert sum(slept) == 120


def test_jobs_of_buckets():
    entries = [(200, "id"), (404, "No job of yours.")]
    document = [{"status": status, "data": data} for status, data in entries]
    assert answering(200, document).find_jobs(["a", "b"]) == ["id", None]
    assert answering(200, document).find_jobs([]) == []
    for wrong in (document[:1], [{"status": 500, "data": "x"}] * 2, [7, 7], {"a": 1}):
        with pytest.raises(ServiceError):
            answering(200, wrong).find_jobs(["a", "b"])
    with pytest.raises(UnknownCallError, match="older"):
        answering(404, {"detail": "Not Found"}).find_jobs(["a"])


def test_as_many_buckets_as_one_wants_are_asked_for():
    sizes = []

    def handler(body):
        sizes.append(len(body["bucketids"]))
        return answer(200, [{"status": 404, "data": ""}] * sizes[-1])

    assert service(handler).find_jobs(["a"] * 2500) == [None] * 2500
    assert sizes == [1000, 1000, 500]


def test_untrusted_certificates_are_not_tried_again():
    def handler(body):
        raise SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")

    started = time.monotonic()
    with pytest.raises(ServiceError, match="SSL_CERT_FILE"):
        service(handler, patience=30).submit(JOB)
    assert time.monotonic() - started < 5


def test_retry_after_as_number_and_date():
    def after(value):
        return connection._retry_after(answer(503, headers={"Retry-After": value}))

    assert after("7") == 7
    assert 55 < after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert after("soon") == 0
    assert after(email.utils.formatdate(0, usegmt=True)) == 0
