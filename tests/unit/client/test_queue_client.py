"""How answers become results and errors. The network is a FAKE."""

import email.utils
import io
import json
import time

import pytest
import urllib3
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError, SSLError

from leruli.errors import (
    AccessRefusedError,
    NotFoundError,
    RefusedError,
    SecretRefusedError,
    ServiceError,
    UnknownCallError,
)
from leruli.images.published import ImageTokens
from leruli.service import connection, queue_client
from leruli.settings import ServiceSettings

JOB = queue_client.JobRequest("bucket", "psi4", "1.5", 1, 4000, 60)


class FakePool:
    """A FAKE of urllib3's pool: a function answers each request."""

    def __init__(self, handler):
        self.handler = handler

    def request(self, method, url, body, redirect):
        assert (method, redirect) == ("POST", False)
        assert url.startswith("http://queue.test/v22_1/")
        return self.handler(json.loads(body))


def service(handler, retry_for_s=0.0):
    made = queue_client.QueueClient(ServiceSettings("http://queue.test", "secret", retry_for_s))
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


def test_bulk_answers_become_ids_and_errors():
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


def test_connection_errors_are_retried_until_the_retry_time_is_over():
    calls = []

    def handler(body):
        calls.append(body)
        if len(calls) == 1:
            raise refused()
        return answer(200, "id")

    assert service(handler, retry_for_s=5).submit(JOB) == "id"
    calls.clear()
    with pytest.raises(ServiceError, match="1 try"):
        service(handler, retry_for_s=0).submit(JOB)


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
def test_an_unrepeatable_call_is_retried_only_if_it_was_not_done(first, calls_made):
    calls = []

    def handler(body):
        calls.append(body)
        if len(calls) > 1:
            return answer(200, "done")
        if isinstance(first, Exception):
            raise first
        return first

    line = service(handler, retry_for_s=5)._connection
    if calls_made == 2:
        assert line.call("path", {}, unclear="Look.") == "done"
    else:
        with pytest.raises(ServiceError, match=r"Look\.$"):
            line.call("path", {}, unclear="Look.")
    assert len(calls) == calls_made


FULL = {"detail": "The group has 5 jobs waiting, and at most 5 may wait."}
RETRY_AFTER_60_S = {"Retry-After": "60"}


@pytest.fixture
def slept(monkeypatch):
    """Use a clock that only sleep() moves; return the list of pauses."""
    pauses = []
    monkeypatch.setattr(connection.time, "monotonic", lambda: sum(pauses))
    monkeypatch.setattr(connection.time, "sleep", pauses.append)
    return pauses


def busy(times, status=503, document=FULL, headers=RETRY_AFTER_60_S):
    """Return a service that is busy `times` times; its notices go into `told`."""
    answers = [answer(status, document, headers=headers)] * times
    made = service(lambda body: answers.pop() if answers else answer(200, []))
    made._connection.settings = ServiceSettings("http://queue.test", "secret")
    made.told = []
    made._connection._notice = made.told.append
    return made


def test_a_batch_retries_as_soon_as_the_service_says(slept):
    assert busy(200, headers={"Retry-After": "2"}).submit_bulk([], lambda: "") == []
    assert slept == [2.0] * 200


def test_a_batch_waits_as_long_as_the_service_says(slept):
    full = busy(200)
    assert full.submit_bulk([], lambda: "Submitted so far: 7 of 9 folders.") == []
    assert slept == [60.0] * 200
    assert set(full.told) == {
        "The queue is busy (HTTP 503); trying again in 60 s. The group has 5 jobs waiting, and "
        "at most 5 may wait. Submitted so far: 7 of 9 folders."
    }


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({"headers": {}}, 120),  # no Retry-After
        ({"document": {}}, 120),  # not an answer of the service itself
        ({"status": 429}, 120),
        ({"status": 502}, 120),
    ],
)
def test_other_answers_count_against_the_retry_time_of_a_batch(slept, more, seconds):
    with pytest.raises(ServiceError, match=r"in [0-9]+ tries"):
        busy(200, **more).submit_bulk([], lambda: "")
    assert seconds - 60 <= sum(slept) <= seconds


def test_the_retry_time_starts_when_the_queue_goes_away(slept):
    answers = [answer(503, FULL, headers=RETRY_AFTER_60_S)] * 100

    def handler(body):
        if answers:
            return answers.pop()
        raise refused()

    made = service(handler, retry_for_s=30)
    with pytest.raises(ServiceError, match="did not answer"):
        made.submit_bulk([], lambda: "")
    assert sum(slept) - 6000 == pytest.approx(30)


@pytest.mark.parametrize(("is_submitting", "seconds"), [(True, 120), (False, 20)])
def test_a_queue_that_is_away_is_retried_for_the_promised_time(slept, is_submitting, seconds):
    """D14: a submission failed after 15 s: its first call was retried like any other call."""

    def away(body):
        raise refused()

    made = service(away)
    made._connection.settings = ServiceSettings("http://queue.test", "secret")
    with pytest.raises(ServiceError, match="did not answer"):
        _ = ImageTokens(made, is_submitting=is_submitting).newest
    assert sum(slept) == pytest.approx(seconds)


def test_a_retry_time_of_zero_means_one_try(slept):
    made = busy(1)
    made._connection.settings = ServiceSettings("http://queue.test", "secret", 0)
    with pytest.raises(ServiceError, match=r"in 1 try\. The group has 5 jobs waiting"):
        made.submit_bulk([], lambda: "")
    assert slept == []


def test_a_single_submission_ends_with_the_services_sentence(slept):
    with pytest.raises(ServiceError, match=r"at most 5 may wait\.$"):
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


def test_any_number_of_buckets_is_asked_for_in_chunks():
    sizes = []

    def handler(body):
        sizes.append(len(body["bucketids"]))
        return answer(200, [{"status": 404, "data": ""}] * sizes[-1])

    assert service(handler).find_jobs(["a"] * 2500) == [None] * 2500
    assert sizes == [1000, 1000, 500]


def test_untrusted_certificates_are_not_retried():
    def handler(body):
        raise SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")

    started = time.monotonic()
    with pytest.raises(ServiceError, match="SSL_CERT_FILE"):
        service(handler, retry_for_s=30).submit(JOB)
    assert time.monotonic() - started < 5


def test_retry_after_as_number_and_date():
    def after(value):
        return connection._retry_after(answer(503, headers={"Retry-After": value}))

    assert after("7") == 7
    assert 55 < after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert after("soon") == 0
    assert after(email.utils.formatdate(0, usegmt=True)) == 0
