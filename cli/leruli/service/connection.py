"""One HTTP connection to the service: calls, retries, and the meaning of answers.

It uses urllib3. The SDK of the object storage requires urllib3 anyway, and importing it takes half
as long as importing other HTTP libraries.

Most calls may be repeated without harm: the service knows a submission by its bucket. So each call
is retried with a growing back-off when the connection fails or the answer is 429, 502, 503 or 504.
A call that must not be repeated passes `unclear`. It is retried only while it is certain that the
service did not act on it.
"""

from __future__ import annotations

import email.utils
import json
import random
import ssl
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from leruli._version import __version__
from leruli.errors import (
    AccessRefusedError,
    LeruliError,
    NotFoundError,
    OldCursorError,
    RefusedError,
    SecretRefusedError,
    ServiceError,
    UnknownCallError,
)
from leruli.settings import ServiceSettings
from leruli.tls import speaks_plain_http, tls_context

_RETRY_FOR_S = 20.0
_LONGEST_PAUSE = 15.0

_TIMEOUT = urllib3.Timeout(connect=10.0, read=60.0)
# More than a batch has threads. For connections beyond it urllib3 logs a warning.
_CONNECTIONS = 16

# The service was not reached, or says that it did not act on the call.
_NOT_SENT = (NewConnectionError, ConnectTimeoutError, ProxyError)
_NOT_DONE = frozenset({429, 503})
# A proxy answers these. The service may have acted on the call.
_PERHAPS_DONE = frozenset({502, 504})

# The answer of the service for an unknown path.
_NO_SUCH_CALL = "Not Found."

#: Takes a sentence each time a call has to wait.
Notice = Callable[[str], None]


class Connection:
    """A connection to the service, for use by several threads at once."""

    def __init__(self, settings: ServiceSettings, notice: Notice = lambda _: None) -> None:
        self.settings = settings
        self._notice = notice
        self._pool = _pool(settings.base_url)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def call(
        self,
        path: str,
        body: Any,
        *,
        retry_for_s: float = _RETRY_FOR_S,
        jobid: str | None = None,
        unclear: str | None = None,
        progress: Callable[[], str] | None = None,
    ) -> Any:
        """Make a call and return the JSON document of the answer.

        Parameters
        ----------
        path
            The name of the call, such as "task-status".
        body
            The JSON document to send.
        retry_for_s
            How long to retry, in seconds. LERULI_RETRY_SECONDS overrides it.
        jobid
            The job that a 404 is about.
        unclear
            The advice to the user if it is unknown whether the service acted on the call. With it
            the call is not repeated then.
        progress
            Returns a sentence on the state of the whole work. With it the call is repeated as long
            as the service answers 503 with Retry-After.

        Raises
        ------
        SecretRefusedError
            HTTP 403.
        NotFoundError
            HTTP 404.
        AccessRefusedError
            HTTP 412.
        RefusedError
            Any other 4xx.
        ServiceError
            No answer within the retry time, or an answer that is not from Leruli Queue.
        """
        response = self._post(path, body, retry_for_s, unclear, progress)
        answer = _document(response)
        if response.status == 200 and answer is not None:
            return answer
        raise self._refusal(response, answer, jobid)

    def call_for_text(self, path: str, body: Any) -> str:
        """Make a call that answers with a CSV table and return it; raises as `call` does."""
        response = self._post(path, body, _RETRY_FOR_S)
        if response.status == 200 and response.headers.get("content-type", "").startswith(
            "text/csv"
        ):
            return response.data.decode("utf-8", "replace")
        raise self._refusal(response, _document(response), None)

    def refusal(
        self, status: int, detail: Any, *, jobid: str | None = None, remark: str = ""
    ) -> LeruliError:
        """Return the exception for a refusal, of a call or of one entry of a bulk call."""
        text = _sentence(detail) + remark
        if status == 404 and text == _NO_SUCH_CALL:
            return UnknownCallError(
                f"The queue at {self.settings.base_url} does not know this call. It is of an older "
                "version than this client, or LERULI_BASEURL names something else."
            )
        if status == 404:
            return NotFoundError(
                text
                if jobid is None
                else f"There is no job {jobid} in your group, or it is not yours. Check the id "
                "(leruli.job in the folder has it)."
            )
        if status == 403:
            return SecretRefusedError(
                f"The queue did not accept {self.settings.credential} for this: {text} "
                f"{self.settings.credential_advice}"
            )
        if status == 410:
            return OldCursorError(text)
        if status == 412:
            return AccessRefusedError(f"Your group cannot run jobs yet: {text}")
        if status >= 500:
            return ServiceError(f"The queue failed (HTTP {status}): {text} Try again later.")
        return RefusedError(f"The queue refused: {text}")

    def nonsense(self, status: int | None = None) -> ServiceError:
        """Return the exception for an answer that does not come from Leruli Queue."""
        code = f" (HTTP {status})" if status is not None else ""
        return ServiceError(
            f"{self.settings.base_url} answered with something that is not from Leruli Queue"
            f"{code}. Check LERULI_BASEURL and whether a proxy stands in between."
        )

    def _refusal(
        self, response: urllib3.BaseHTTPResponse, answer: Any, jobid: str | None
    ) -> LeruliError:
        status = response.status
        detail = answer.get("detail") if isinstance(answer, dict) else None
        if detail is None:
            # The service always gives a detail. So a proxy answered, or the address is wrong.
            return self.nonsense(status)
        remark = ""
        request_id = response.headers.get("x-request-id")
        if request_id and status >= 500:
            remark = f" (Quote request {request_id} when you ask for help.)"
        return self.refusal(status, detail, jobid=jobid, remark=remark)

    def _post(
        self,
        path: str,
        body: Any,
        retry_for_s: float,
        unclear: str | None = None,
        progress: Callable[[], str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """POST until the answer is not 429, 502, 503 or 504, or `retry_for_s` seconds are over."""
        if self.settings.retry_for_s is not None:
            retry_for_s = self.settings.retry_for_s
        url = f"{self.settings.base_url}/v22_1/{path}"
        content = json.dumps(body).encode()
        deadline = time.monotonic() + retry_for_s
        tries = failures = 0
        while True:
            tries += 1
            # Jitter: a thousand clients must not retry at the same moment.
            pause = min(0.5 * 2**failures, _LONGEST_PAUSE) * random.uniform(0.75, 1.25)  # noqa: S311
            failures += 1
            said, wanted = "", 0.0
            try:
                response = self._pool.request("POST", url, body=content, redirect=False)
            except HTTPError as error:
                if speaks_plain_http(error):
                    raise self._plain() from None
                if _is_certificate_trouble(error):
                    raise self._untrusted(error) from None
                trouble = f"did not answer ({_cause(error)})"
                if unclear is not None and not isinstance(error, _NOT_SENT):
                    raise self._unclear(trouble, unclear) from None
            else:
                status = response.status
                if status not in _NOT_DONE and status not in _PERHAPS_DONE:
                    return response
                said = _said(response)
                trouble = f"is busy{'' if said else ' or restarting'} (HTTP {status})"
                if unclear is not None and status in _PERHAPS_DONE:
                    raise self._unclear(trouble, unclear)
                wanted = _retry_after(response)
                pause = max(pause, wanted)
                if progress is not None and said and status == 503 and wanted and retry_for_s:
                    # The service is up and said when to retry. So the retry time starts again.
                    said = f"{said} {progress()}"
                    deadline = time.monotonic() + pause + retry_for_s
                    failures = 0
            left = deadline - time.monotonic()
            if left <= 0 or wanted > left:
                raise self._exhausted(trouble, tries, said) from None
            # The last try happens exactly at the deadline.
            pause = min(pause, left)
            self._notice(f"The queue {trouble}; trying again in {pause:.0f} s. {said}".rstrip())
            time.sleep(pause)

    def _exhausted(self, trouble: str, tries: int, said: str) -> ServiceError:
        advice = "Try again later; if it lasts, check LERULI_BASEURL and your network."
        return ServiceError(
            f"The queue at {self.settings.base_url} {trouble}, in {tries} "
            f"{'try' if tries == 1 else 'tries'}. {said or advice}"
        )

    def _unclear(self, trouble: str, unclear: str) -> ServiceError:
        return ServiceError(f"The queue at {self.settings.base_url} {trouble}. {unclear}")

    def _plain(self) -> ServiceError:
        host = urlsplit(self.settings.base_url).netloc
        return ServiceError(
            f"The server at {host} speaks http:// and LERULI_BASEURL begins with https://. Set "
            f"it to http://{host}, or ask the operator of the queue for its https:// address."
        )

    def _untrusted(self, error: Exception) -> ServiceError:
        return ServiceError(
            f"The certificate of {self.settings.base_url} is not trusted: {error}. If your "
            "organisation has a certificate authority of its own, name its file in SSL_CERT_FILE."
        )


def _pool(base_url: str) -> urllib3.PoolManager:
    """Return connections to an address, through its proxy if the environment names one."""
    parts = urlsplit(base_url)
    options: dict[str, Any] = {
        "maxsize": _CONNECTIONS,
        "timeout": _TIMEOUT,
        # `_post` decides which calls may be repeated, not the library.
        "retries": False,
        "ssl_context": tls_context(secure=parts.scheme == "https"),
        "headers": {"User-Agent": f"leruli/{__version__}", "Content-Type": "application/json"},
    }
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return urllib3.PoolManager(**options)
    try:
        return _proxied(proxy if "://" in proxy else f"http://{proxy}", options)
    except (ValueError, HTTPError):
        # The sentence quotes neither the address nor the error: they may hold a password.
        raise ServiceError(
            f"Cannot set up a connection to {base_url}: the proxy that your environment names for "
            "it cannot be used. It has to be http://host:port or https://host:port: check "
            f"{parts.scheme}_proxy and all_proxy, or except the host in no_proxy."
        ) from None


def _proxied(proxy: str, options: dict[str, Any]) -> urllib3.PoolManager:
    """Return connections through a proxy; raises ValueError or HTTPError for an invalid address."""
    parts = urlsplit(proxy)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
    if parts.scheme == "https":
        options["proxy_ssl_context"] = tls_context(secure=True)
    return urllib3.proxy_from_url(proxy, **options)


def _document(response: urllib3.BaseHTTPResponse) -> Any:
    try:
        return json.loads(response.data)
    except ValueError:
        return None


def _said(response: urllib3.BaseHTTPResponse) -> str:
    """Return the sentence of the service, "" if a proxy answered in its place."""
    answer = _document(response)
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return "" if detail is None else _sentence(detail)


def _sentence(detail: Any) -> str:
    """Return the `detail` of an answer as one sentence. FastAPI's own form of it is a list."""
    if isinstance(detail, list):
        parts = []
        for item in detail:
            if isinstance(item, dict):
                where = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
                parts.append(f"{where}: {item.get('msg', 'not valid')}")
        text = "; ".join(parts)
    else:
        text = str(detail or "").strip()
    text = text or "it gave no reason"
    return text if text.endswith((".", "!", "?")) else text + "."


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    """Return the seconds that the service asks to wait (a number or a date), 0 if it names none."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _is_certificate_trouble(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _cause(error: HTTPError) -> str:
    """Return the reason of a failure, without the address that urllib3 puts before it."""
    if isinstance(error, HTTPTimeoutError) and not isinstance(error, NewConnectionError):
        return "timeout"
    text = str(error.args[-1]) if error.args else ""
    return text.rpartition(": ")[2] or type(error).__name__
